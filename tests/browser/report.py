#!/usr/bin/env python3
"""The page of `report` in a real browser: light and dark, wide and narrow, by keyboard, on paper.

usage: tests/browser/report.py [BINARY] [--shots DIR]

Needs Debian's chromium and chromium-driver, and nothing of Python but its standard library.
"""

import argparse
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile

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

# Steps of the large page; their rows are copies.
MANY = 20_000


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


def multiply(binary, folder, copy):
    """The same with many more steps, and the page about them."""
    shutil.copytree(folder, copy)
    db = sqlite3.connect(copy / "db" / "db")
    db.execute("CREATE TEMP TABLE done AS SELECT row_number() OVER (ORDER BY id) - 1 AS nth, * FROM step WHERE state = 1")
    db.execute(
        f"""WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})
        INSERT INTO step(id, object, task, recipe, name, key, executable, live, state)
        SELECT 1000 + n, object, task, recipe, 'copy ' || n, key + n, 0, 1, 1
        FROM n JOIN done ON nth = n % (SELECT count(*) FROM done)"""
    )
    db.execute(
        """INSERT INTO attempt(step, number, run, outcome, started_ms, wall_us, user_us, system_us, peak_kib, worker)
        SELECT s.id, 1, r.id, CASE WHEN s.id % 3000 = 0 THEN 'exit' ELSE 'ok' END, r.started_ms + s.id * 3,
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
    assert found["title"].startswith("pipeline.toml"), f"{where}: {found['title']}"
    assert found["scripts"] == 0 and found["images"] == 0, f"{where}: {found}"
    assert found["nameless"] == [], f"{where}: without a name: {found['nameless']}"
    assert found["dead"] == [], f"{where}: links to nowhere: {found['dead']}"
    if shots:
        (shots / f"{name}-{scheme}-{width}.png").write_bytes(browser.shot())


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
        assert size < 1_000_000, f"the page of {MANY} steps has {size} bytes"
        with Browser(temp) as browser:
            for name, path in pages.items():
                browser.open(path.as_uri())
                for scheme in ["light", "dark"]:
                    for width in [1280, 360]:
                        check(browser, name, scheme, width, args.shots)
                stops = check_keyboard(browser, name, 1280)
                paper = browser.paper()
                assert paper.startswith(b"%PDF") and len(paper) > 10_000, f"{name}: {paper[:20]}"
                if args.shots:
                    (args.shots / f"{name}.pdf").write_bytes(paper)
                print(f"{name}: {path.stat().st_size} bytes, 4 looks, {stops} stops of Tab, printed")


if __name__ == "__main__":
    main()
