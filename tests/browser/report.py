#!/usr/bin/env python3
"""The page of `report` in a real browser: light and dark, wide and narrow, by keyboard, on paper; what it
answers, and what it is without its script.

usage: tests/browser/report.py [BINARY] [--shots DIR]

Needs Debian's chromium and chromium-driver, and nothing of Python but its standard library.
"""

import argparse
import pathlib
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import zlib

from driver import Browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent

MANIFEST = r"""
[[task]]
name = "fetch"
inputs = ["data/*"]
script = 'cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME"'
[[task]]
name = "split"
script = '''
if grep -q bad "$INPUT_FILE"; then
  seq 40 | while read -r n; do echo "line $n <script>document.title = 1</script> & \"more\""; done
  printf 'a long line: %0300d\n\033[31mred\033[0m\n' 7
  exit 3
fi
split -l 50 "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME.part."
'''
[[task]]
name = "count-words"
script = 'sleep 0.01; wc -w < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"; case "$INPUT_NAME" in *-7.*) kill -9 $$;; esac'
[[task]]
name = "checksum"
from = ["split"]
script = 'sha256sum < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"'
[[task]]
name = "total-of-all-the-words-counted"
from = ["count-words"]
gather = true
script = 'cat "$INPUT_DIR"/* > "$OUTPUT_DIR/total"'
"""

# What the page of results has in it: a title, labels, pictures, tables and texts, each with something that must stay text.
RESULTS = r"""
title = "Results <of> </title> & more"
[[task]]
name = "plot"
inputs = ["data/{sample}.png"]
report = true
script = '''
cp "$INPUT_FILE" "$OUTPUT_DIR/$sample.png"
cat > "$OUTPUT_DIR/$sample.svg" <<END
<svg xmlns="http://www.w3.org/2000/svg" width="300" height="120"><rect width="300" height="120" fill="#cde"/>
<text x="20" y="70" font-size="32">$sample</text><script>document.title = "wrong"; alert(1)</script>
<image href="http://example.org/x.png" width="10" height="10"/></svg>
END
{ echo 'name,count,</td><script>'; seq 1 30 | while read -r n; do echo "row $n,$((n * 7 % 31)).5,<b>$n"; done; } > "$OUTPUT_DIR/$sample.csv"
printf '{"sample":"%s","ok":true,"of":[1,2,3],"odd":"</script><!--"}' "$sample" > "$OUTPUT_DIR/$sample.json"
seq 600 > "$OUTPUT_DIR/$sample.txt"
'''
"""

# A graph of so many tasks, a few of which use what came several tasks before.
TASKS = 40


def graph():
    """Tasks of the page of results besides: eight columns of five, and edges past columns."""
    text = ""
    for n in range(1, TASKS):
        column, row = divmod(n - 1, 5)
        producers = ["plot"] if column == 0 else [f"task-of-the-graph-{(column - 1) * 5 + row + 1}"]
        if column > 1 and row == 2:
            producers.append(f"task-of-the-graph-{(column - 2) * 5 + 1}")
        if column > 3 and row == 4:
            producers.append("plot")
        text += f"""
[[task]]
name = "task-of-the-graph-{n}"
from = {producers}
gather = true
script = 'echo {n} > "$OUTPUT_DIR/x"'
"""
    return text


# Steps of the large page; their rows are copies.
MANY = 100_000

# What its page may have, in bytes.
LARGEST = 3_000_000


def make(binary, folder):
    """A pipeline in which some steps fail, and the page about it."""
    data = folder / "data"
    data.mkdir(parents=True)
    for n in range(1, 13):
        (data / f"file-{n}.txt").write_text("".join(f"word {i}\n" for i in range(n * 20)))
    (data / "<img src=x onerror=alert(1)> \"quoted\" & 'so'.txt").write_text("bad\n")
    (folder / "pipeline.toml").write_text(MANIFEST)
    ran = subprocess.run([binary, "-q", "-k", "-j4"], cwd=folder, stderr=subprocess.DEVNULL)
    assert ran.returncode == 1, ran
    return page(binary, folder)


def picture(width, height):
    """A PNG with a gradient."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    rows = b"".join(b"\0" + bytes(value for x in range(width) for value in (x % 256, y % 256, 128)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def make_results(binary, folder):
    """A pipeline of many tasks with results to be shown, and the page that its run writes."""
    (folder / "data").mkdir(parents=True)
    for sample in ["A", "B"]:
        (folder / "data" / f"{sample}.png").write_bytes(picture(400, 120))
    (folder / "pipeline.toml").write_text(RESULTS + graph())
    subprocess.run([binary, "-q", "-j4", "--report", "report.html"], cwd=folder, check=True)
    return folder / "report.html"


def multiply(binary, folder, copy):
    """The same with many more steps, and the page about them."""
    shutil.copytree(folder, copy)
    db = sqlite3.connect(copy / "db" / "db")
    db.execute("CREATE TEMP TABLE done AS SELECT row_number() OVER (ORDER BY id) - 1 AS nth, * FROM step WHERE state = 1")
    db.execute(
        f"""WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})
        INSERT INTO step(id, object, task, recipe, name, key, executable, live, state, labels, origin)
        SELECT 1000 + n, object, task, recipe, 'copy ' || n, key + n, 0, 1, CASE WHEN n % 3000 THEN 1 ELSE 2 END,
          json_object('lane', 'L' || (n % 7), 'sample', 'sample-' || n), n
        FROM n JOIN done ON nth = n % (SELECT count(*) FROM done)"""
    )
    source = "FROM step s JOIN done d ON d.nth = (s.id - 1000) % (SELECT count(*) FROM done)"
    db.execute(
        f"""INSERT INTO output(step, name, object, executable) SELECT s.id, o.name, o.object, o.executable
        {source} JOIN output o ON o.step = d.id WHERE s.id > 1000 AND s.state = 1"""
    )
    db.execute(
        f"""INSERT INTO step_link(from_step_id, to_step_id) SELECT l.from_step_id, s.id
        {source} JOIN step_link l ON l.to_step_id = d.id WHERE s.id > 1000"""
    )
    db.execute(
        """INSERT INTO attempt(step, number, run, outcome, started_ms, wall_us, user_us, system_us, peak_kib, worker)
        SELECT s.id, 1, r.id, CASE s.state WHEN 2 THEN 'exit' ELSE 'ok' END, r.started_ms + s.id * 3,
          2000 + s.id * 7919 % 9000 * (1 + s.id % 11), 900, 300, 1500 + s.id * 31 % 4000, 1 + s.id % 4
        FROM step s JOIN run r WHERE s.name LIKE 'copy %'"""
    )
    db.commit()
    db.close()
    return page(binary, copy)


def page(binary, folder):
    subprocess.run([binary, "report"], cwd=folder, check=True)
    return folder / "report.html"


def check(browser, name, scheme, width, shots):
    """What a machine can see of one look of the page."""
    where = f"{name}, {scheme}, {width} px"
    browser.look(scheme, width, 800)
    asked = browser.requests()
    assert asked and all(url.startswith("file://") for url in asked), f"{where}: asked for {asked}"
    assert browser.console() == [], f"{where}: the console says {browser.console()}"
    found = browser.run((HERE / "look.js").read_text())
    wide, inner = found["width"]
    # A phone zooms out of a page that is too wide: its window is then as wide as the page.
    assert wide <= width and inner <= width, f"{where}: the page is {max(wide, inner)} px wide: {found['wide']}"
    assert found["texts"] > 100, f"{where}: only {found['texts']} texts"
    assert found["faint"] == [], f"{where}: too little contrast: {found['faint'][:8]}"
    assert found["title"] == f"{TITLES[name]} · task-pipeline report", f"{where}: {found['title']}"
    # A picture that could not be drawn has no width.
    drawn = browser.run("return [...document.images].map((image) => image.naturalWidth)")
    assert drawn == PICTURES[name], f"{where}: pictures {drawn}"
    assert found["scripts"] == 2 and found["others"] == 0, f"{where}: {found}"
    assert found["nameless"] == [], f"{where}: without a name: {found['nameless']}"
    assert found["dead"] == [], f"{where}: links to nowhere: {found['dead']}"
    if shots:
        (shots / f"{name}-{scheme}-{width}.png").write_bytes(browser.shot())


TITLES = {"small": "small", "large": "small", "results": "Results <of> </title> & more"}
PICTURES = {"small": [], "large": [], "results": [400, 300, 400, 300]}

# Gives the filter a word, and tells how many rows there are then and how many milliseconds it took, layout included.
FILTER = """
const search = document.querySelector('#table input');
search.value = arguments[0];
const begin = performance.now();
search.dispatchEvent(new Event('input'));
document.body.getBoundingClientRect();
return [document.querySelectorAll('#table tbody tr').length, performance.now() - begin,
  document.querySelector('#table [role=status]').textContent];
"""
CELLS = "return [...document.querySelectorAll('#table tbody tr')].map((row) => row.children[arguments[0]].textContent)"
CHOOSE = """
const label = [...document.querySelectorAll('#table label')].find((one) => one.textContent.startsWith(arguments[0]));
const select = label.querySelector('select');
select.value = arguments[1];
select.dispatchEvent(new Event('change'));
"""
PRESS = "[...document.querySelectorAll('#table button')].find((one) => one.textContent.startsWith(arguments[0])).click()"
DETAIL = "const shown = document.querySelector('dialog[open]'); return shown && shown.textContent"


def check_asked(browser, name, steps):
    """The page answers: filter, sort, group, and one step with its link."""
    browser.look("light", 1280, 800)
    rows, _, status = browser.run(FILTER, "")
    assert rows == 50 and any(f"{all:,} steps" in status for all in [steps, steps + 1]), f"{name}: {rows} rows, {status}"
    rows, took, status = browser.run(FILTER, "failed split")
    assert rows >= 1, f"{name}: {status}"
    assert all(state.startswith("exit code") or "failed" in state or "signal" in state for state in browser.run(STATES)), name
    slowest = max(browser.run(FILTER, word)[1] for word in ["c", "co", "copy", "copy 9", "nothing at all", "file-1", ""])
    browser.run(PRESS, "Time")
    times = browser.run(CELLS, browser.run(HEADS).index("Time"))
    browser.run(PRESS, "Time")
    quick = browser.run(CELLS, browser.run(HEADS).index("Time"))
    assert times == sorted(times, key=milliseconds, reverse=True), f"{name}: {times}"
    assert quick == sorted(quick, key=milliseconds) and milliseconds(quick[0]) < milliseconds(times[0]), f"{name}: {quick}"
    browser.run(CHOOSE, "Group by", "task")
    sums = [int(text.replace(",", "")) for text in browser.run(CELLS, 1)]
    # A gather that waits counts among those that are left.
    assert sum(sums) - steps in (0, 1) and len(sums) == 5, f"{name}: {sums}"
    browser.run(PRESS, "split")
    assert set(browser.run(CELLS, 1)) == {"split"}, name
    browser.run(PRESS, "task = split")
    # By keyboard: Enter on the link of a step shows it, Escape leaves it, and one is where one was.
    browser.run(FILTER, "split quoted")
    browser.run("document.querySelector('#table tbody a').focus()")
    browser.keys("\ue007")
    shown = browser.until(DETAIL)
    assert shown and "line 40 <script>document.title = 1</script> & \"more\"" in shown, f"{name}: {shown}"
    assert "grep -q bad" in shown and "will run because it failed last time" in shown, f"{name}: {shown}"
    assert browser.run("return location.hash").startswith("#step-"), name
    browser.keys("\ue00c")
    assert browser.until("return !location.hash && document.activeElement.tagName === 'A'"), name
    left = browser.run("return [document.querySelector('dialog').open, location.hash, document.activeElement.textContent.slice(0, 60)]")
    assert left[:2] == [False, ""] and left[2].isdigit(), f"{name}: {left}"
    browser.run("location.hash = '#step-999999999'")
    assert "not on the page" in browser.until(DETAIL), name
    assert browser.run("return document.title").startswith(TITLES[name]), name
    assert browser.console() == [], name
    return slowest


STATES = """
const at = [...document.querySelectorAll('#table thead th')].findIndex((head) => head.textContent.startsWith('State'));
return [...document.querySelectorAll('#table tbody tr')].map((row) => row.children[at].textContent);
"""
HEADS = "return [...document.querySelectorAll('#table thead th')].map((head) => head.textContent)"
PAINT = """
const paint = performance.getEntriesByName('first-contentful-paint')[0];
return paint ? paint.startTime : null;
"""


def milliseconds(text):
    number, unit = text.split()
    return float(number) * {"ms": 1, "s": 1000}[unit]


def check_results(browser, name):
    """Tables can be sorted, labels are groups, and the graph has room for all its tasks."""
    browser.look("light", 1280, 800)
    order = "return [...document.querySelector('table.sortable').tBodies[0].rows].map((row) => row.cells[1].textContent)"
    head = "document.querySelectorAll('table.sortable thead button')[1].click()"
    browser.run(head)
    counts = browser.run(order)
    assert counts == sorted(counts, key=float) and len(counts) == 30, f"{name}: {counts}"
    browser.run(head)
    assert browser.run(order) == counts[::-1], name
    browser.run(CHOOSE, "Group by", "label:sample")
    assert browser.run(CELLS, 0) == ["A", "B"] and browser.run(CELLS, 1) == ["1", "1"], name
    # Names of 14 px are drawn with 10 at least, and no box is over another.
    scale, overlaps, count = browser.run(GRAPH)
    assert scale >= 0.7 and overlaps == 0 and count == TASKS, f"{name}: {scale}, {overlaps} overlap, {count} tasks"
    browser.look("light", 390, 800)
    shown = browser.run("return ['.graph', 'table.cards tbody tr'].map((part) => document.querySelector(part).checkVisibility())")
    assert shown == [False, True], f"{name}: {shown}"


GRAPH = """
const graph = document.querySelector('.graph');
const boxes = [...graph.querySelectorAll('.box')].map((box) => box.getBoundingClientRect());
let overlaps = 0;
boxes.forEach((a, n) => boxes.slice(n + 1).forEach((b) => {
  if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) overlaps += 1;
}));
return [graph.getBoundingClientRect().width / graph.viewBox.baseVal.width, overlaps, boxes.length];
"""


def check_timeline(browser, name):
    """The timeline is drawn larger by button and by key, tells what is under the pointer, and leads to the step."""
    browser.look("light", 1280, 800)
    width = "return document.querySelector('.timeline > svg').getBoundingClientRect().width"
    marks = "return [...document.querySelectorAll('.timeline .axis text')].map((mark) => mark.textContent)"
    before, few = browser.run(width), browser.run(marks)
    for _ in range(3):
        browser.run("[...document.querySelectorAll('#timeline button')].find((one) => one.textContent === 'Closer').click()")
    assert abs(browser.run(width) / before - 8) < 0.1, f"{name}: {before} px, then {browser.run(width)}"
    many = browser.run(marks)
    assert len(many) > len(few) and len(set(many)) == len(many), f"{name}: {few}, then {many}"
    browser.run("document.querySelector('#timeline .scroll').focus()")
    browser.keys("0")
    assert abs(browser.run(width) - before) < 1, name
    browser.keys("+")
    step = browser.run(HOVER)
    told = browser.run("const tip = document.querySelector('.tip'); return tip.hidden ? null : tip.textContent")
    assert told and f"step {step}" in told, f"{name}: {told}"
    browser.run("document.querySelector('.timeline [data-step]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert f"step {step} " in browser.run(DETAIL), name
    assert browser.console() == [], name


HOVER = """
const bar = document.querySelector('.timeline [data-step]');
const {left, top} = bar.getBoundingClientRect();
bar.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: left + 1, clientY: top + 1}));
return bar.getAttribute('data-step');
"""


def check_policy(browser, name):
    """No script runs but the page's own; and without any, all is there that needs none."""
    browser.look("light", 1280, 800)
    browser.run(
        "const script = document.createElement('script'); script.textContent = 'document.title = \"wrong\"';"
        "document.body.append(script)"
    )
    assert browser.run("return document.title") != "wrong", f"{name}: another script has run"
    refused = browser.console()
    assert any("Content Security Policy" in line for line in refused), f"{name}: {refused}"
    browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    browser.look("light", 1280, 800)
    seen = browser.cdp("Runtime.evaluate", expression=SECTIONS, returnByValue=True)
    browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert "tasks" in seen["result"]["value"] and "steps" not in seen["result"]["value"], f"{name}: {seen}"


SECTIONS = "[...document.querySelectorAll('section')].filter((part) => part.checkVisibility()).map((part) => part.id).join(' ')"


def check_keyboard(browser, name, width):
    """Tab goes through everything that can be used, in order, shows where it is, and leaves the page."""
    browser.look("light", width, 800)
    wanted = browser.run("return focusable().map(label)", helpers=True)
    seen = []
    for _ in range(len(wanted) + 5):
        browser.tab()
        at = browser.run("return at()", helpers=True)
        if at is None:
            break
        assert at["visible"], f"{name}: the focus on {at['label']} can't be seen"
        seen.append(at["label"])
    else:
        raise AssertionError(f"{name}: Tab never leaves the page")
    assert seen == wanted, f"{name}: Tab reaches {seen}\ninstead of {wanted}"
    return len(seen)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", default=ROOT / "target/debug/task-pipeline", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path, help="keep a picture of every look here")
    args = parser.parse_args()
    binary = args.binary.resolve()
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    for program in ["chromium", "chromedriver"]:
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(prefix="task-pipeline-") as temp:
        temp = pathlib.Path(temp)
        pages = {"small": make(binary, temp / "small")}
        pages["large"] = multiply(binary, temp / "small", temp / "large")
        size = pages["large"].stat().st_size
        assert size < LARGEST, f"the page of {MANY} steps has {size} bytes"
        # Of the pages that are asked.
        steps = {"small": 98, "large": 98 + MANY}
        pages["results"] = make_results(binary, temp / "results")
        with Browser(temp) as browser:
            for name, path in pages.items():
                browser.open(path.as_uri())
                for scheme in ["light", "dark"]:
                    for width in [1280, 390]:
                        check(browser, name, scheme, width, args.shots)
                paint = browser.run(PAINT)
                slowest = check_asked(browser, name, steps[name]) if name in steps else 0.0
                check_timeline(browser, name)
                if name == "results":
                    check_results(browser, name)
                check_policy(browser, name)
                stops = check_keyboard(browser, name, 1280)
                paper = browser.paper()
                assert paper.startswith(b"%PDF") and len(paper) > 10_000, f"{name}: {paper[:20]}"
                if args.shots:
                    (args.shots / f"{name}.pdf").write_bytes(paper)
                print(f"{name}: {path.stat().st_size} bytes, 4 looks, {stops} stops of Tab, printed; "
                      f"first paint after {paint or -1:.0f} ms, filter answers in {slowest:.1f} ms at most")


if __name__ == "__main__":
    main()
