"""Looks and behaviour of the report: light, quiet, readable on a phone, at ease in the dark."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--bg:#fafafa;--card:#fff;--ink:#1b1f24;--soft:#5c6670;--line:#e4e7eb;--accent:#0b6bcb;
--s0:#0b6bcb;--s1:#e07b39;--s2:#2f9e6e;--s3:#9a6fd0;--s4:#c0475b;--warn:#9a4b00;--warnbg:#fff4e5}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--card:#171c23;--ink:#e7ebf0;--soft:#9aa5b1;--line:#2a313a;
--accent:#6cb2ff;--s0:#6cb2ff;--s1:#f0a06a;--s2:#5fcb9b;--s3:#bfa0ee;--s4:#ef8797;--warn:#ffc27a;--warnbg:#33240f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:clamp(1.7rem,4vw,2.5rem);line-height:1.15;margin:.1em 0 .3em;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:1.35rem;margin:0 0 .8em;letter-spacing:-.01em}
h3{font-size:.95rem;margin:1.2em 0 .5em}
h3 small{font-weight:400;color:var(--soft);margin-left:.5em}
.eyebrow{color:var(--accent);font-weight:600;margin:0;font-size:.85rem}
.lead{font-size:1.08rem;max-width:76ch;margin:0 0 1.4em;color:var(--soft)}.lead b{color:var(--ink)}
.note,figcaption{color:var(--soft);font-size:.86rem;margin:.4em 0 .8em;max-width:90ch}
.warn{background:var(--warnbg);color:var(--warn);padding:.7em 1em;border-radius:8px}
section{margin-top:52px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(155px,1fr));gap:12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.card h3{margin:0;color:var(--soft);font-weight:500;font-size:.85rem}
.card b{font-size:1.55rem;letter-spacing:-.02em;font-variant-numeric:tabular-nums;white-space:nowrap}
.card p{margin:0;color:var(--soft);font-size:.8rem;line-height:1.35}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:8px 12px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
tr:last-child>*{border-bottom:0}
th:first-child{text-align:left}tbody th{font-weight:600}thead th{color:var(--soft);font-weight:500;font-size:.8rem}
td.best{color:var(--accent);font-weight:650}
.code{font-family:ui-monospace,"SF Mono",Consolas,monospace;font-size:.82rem;white-space:normal;overflow-wrap:anywhere}
tbody th.code{font-weight:400}tr.changed .code{font-weight:700}
details{margin:10px 0}summary{cursor:pointer;color:var(--accent);font-size:.92rem;padding:4px 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}
figure{margin:0}
.chart{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px 8px;min-width:0}
.chart h3{margin:0 0 .3em}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.8rem;color:var(--soft);min-height:1.5em}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
svg{width:100%;height:auto;display:block}
svg text{font-size:12px;fill:var(--soft)}svg .x{text-anchor:middle}svg .y{text-anchor:end}svg .label{font-size:12.5px}
.grid{stroke:var(--line);stroke-width:1;fill:none}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.s0{fill:var(--s0);background:var(--s0)}.s1{fill:var(--s1);background:var(--s1)}.s2{fill:var(--s2);background:var(--s2)}
.s3{fill:var(--s3);background:var(--s3)}.s4{fill:var(--s4);background:var(--s4)}.ideal{background:var(--soft)}
.line.s0{fill:none;stroke:var(--s0)}.line.s1{fill:none;stroke:var(--s1)}.line.s2{fill:none;stroke:var(--s2)}
.line.s3{fill:none;stroke:var(--s3)}.line.s4{fill:none;stroke:var(--s4)}
.line.ideal{stroke:var(--soft);stroke-dasharray:5 5;stroke-width:1.5}
.turn img{width:100%;display:block;border-radius:14px;user-select:none;-webkit-user-drag:none}
.turn img[hidden]{display:none}.turn{cursor:ew-resize;touch-action:pan-y;outline-offset:4px}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:10px 14px}
.pictures img{width:100%;display:block;border-radius:8px}
.pictures figcaption{margin:.3em 0 .5em}
article{margin-top:26px}
.scales{display:grid;grid-template-columns:repeat(auto-fit,minmax(250px,1fr));gap:6px 34px}
.scales h3{margin:.2em 0 .3em;font-weight:500;color:var(--soft);font-size:.85rem}
.scale{position:relative;padding-right:1.6em}.scale>div:first-child{height:12px;border-radius:6px}
.scale em{position:absolute;right:0;top:-6px;font-style:normal;font-size:.8rem;color:var(--soft)}
.ticks{position:relative;height:1.5em;font-size:.76rem;color:var(--soft)}
.ticks span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.wide .ticks span:first-child{transform:none}.wide .ticks span:last-child{transform:translateX(-100%)}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:8px 36px}
.columns th{white-space:normal;font-weight:400}
ul{padding-left:1.2em;max-width:90ch}li{margin:.3em 0}
@media(max-width:600px){main{padding:24px 14px 60px}section{margin-top:38px}th,td{padding:7px 9px}}
"""

SCRIPT = """
document.querySelectorAll('.turn').forEach(function(f){
var v=[].slice.call(f.querySelectorAll('img')),now=v.length>>1;
function show(k){k=Math.max(0,Math.min(v.length-1,k));if(k===now)return;v[now].hidden=true;v[k].hidden=false;now=k}
f.addEventListener('pointermove',function(e){var b=f.getBoundingClientRect();
show(Math.floor((e.clientX-b.left)/b.width*v.length))});
f.addEventListener('keydown',function(e){if(e.key==='ArrowLeft')show(now-1);if(e.key==='ArrowRight')show(now+1)});
});
"""
