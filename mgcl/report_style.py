"""The frame of report.html: its style, for a desk and a phone, on paper too."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ --ink: #1c1e22; --faint: #646a74; --line: #e4e7eb; --shade: #f4f6f8; --blue: #0b63c5; }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: #fff;
  max-width: 1120px; margin: 0 auto; padding: 1.2rem 1rem 3rem; }}
h1 {{ font-size: 1.55rem; line-height: 1.25; margin: .3rem 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }}
h3 {{ font-size: 1rem; margin: 1.4rem 0 .5rem; }}
small, .faint {{ color: var(--faint); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }}
th {{ border-bottom: 2px solid var(--ink); vertical-align: bottom; }}
td {{ white-space: nowrap; }}
th.n {{ white-space: normal; max-width: 6.2rem; }}
td.words {{ white-space: normal; overflow-wrap: anywhere; }}
tr.group td {{ border-top: 2px solid #b9c0c9; }}
tr.ours td {{ background: #eef5fd; }}
th:first-child, td:first-child {{ position: sticky; left: 0; background: #fff; }}
tr.ours td:first-child {{ background: #eef5fd; }}
.n {{ text-align: right; }}
.cards {{ display: grid; gap: .7rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }}
.card {{ border: 1px solid var(--line); border-radius: .6rem; padding: .6rem .9rem; }}
.card b {{ display: block; font-size: 1.8rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }}
.card small {{ display: block; font-size: .8rem; line-height: 1.35; }}
.legend span {{ margin-right: 1.1rem; white-space: nowrap; font-size: .85rem; }}
.key {{ display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem;
  border-radius: 2px; }}
.class {{ display: grid; grid-template-columns: 10rem 1fr; gap: 0 .8rem; margin: .9rem 0; }}
.bar {{ display: grid; grid-template-columns: 1fr 6.2rem; gap: .6rem; align-items: center;
  font-size: .8rem; line-height: 1.35; font-variant-numeric: tabular-nums; }}
.track {{ position: relative; background: var(--shade); height: .8rem; border-radius: 2px; }}
.fill {{ display: block; height: 100%; border-radius: 2px; }}
.tick {{ position: absolute; top: -.15rem; bottom: -.15rem; width: 3px; margin-left: -1px;
  background: var(--ink); }}
.histograms {{ display: grid; gap: .4rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }}
.histograms {{ align-items: end; }}
.histograms h3 {{ line-height: 1.3; }}
.histograms h3 small {{ white-space: nowrap; }}
.bins {{ display: flex; align-items: flex-end; gap: 2px; }}
.bins div {{ flex: 1; text-align: center; font-size: .72rem; line-height: 1.3; }}
.bins i {{ display: block; background: var(--blue); border-radius: 2px 2px 0 0;
  border-bottom: 1px solid var(--ink); }}
.bins small {{ display: block; text-align: left; }}
.plots {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }}
img {{ max-width: 100%; height: auto; display: block; }}
figure {{ margin: 0 0 1.4rem; }}
figcaption {{ font-size: .8rem; color: var(--faint); overflow-wrap: anywhere; }}
@media (max-width: 640px) {{
  .class {{ grid-template-columns: 1fr; gap: .2rem; }}
  .class > b {{ font-size: .9rem; }}
  td:first-child {{ white-space: normal; min-width: 7.5rem; }}
  .panel {{ overflow-x: auto; }}
  .panel img {{ max-width: none; width: 46rem; }}
}}
@media print {{ h2 {{ break-after: avoid; }} figure, .card, .class {{ break-inside: avoid; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
