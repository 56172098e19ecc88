#!/usr/bin/env bash
# Gets what Debian 12 doesn't have and the tests of the jobserver can use: GNU make 4.4, built from the sources of a
# newer Debian, and ninja 1.13, from its wheel. They come to lie in target/tools/bin; what is there already stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools
mkdir -p "$tools/bin"

if ! [ -x "$tools/bin/make" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    # The mirror that this machine uses, asked for a newer release.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    printf 'Types: deb-src\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' \
        "$mirror" /usr/share/keyrings/debian-archive-keyring.gpg > "$work/newer.sources"
    # Lists of its own: nothing of the machine's apt is touched.
    apt=(-qq -o "Dir::Etc::sourcelist=$work/newer.sources" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    (
        cd "$work"
        apt-get "${apt[@]}" update
        apt-get "${apt[@]}" source --download-only make-dfsg
        mkdir source
        tar -xJf make-dfsg_*.orig.tar.xz -C source --strip-components 1
        cd source
        # Debian's tarball comes without the manual.
        sed -i 's,doc/Makefile,,' configure
        ./configure -q --disable-nls --without-guile CFLAGS=-O1 > /dev/null
        sh build.sh > /dev/null
    )
    mv "$work/source/make" "$tools/bin/make"
fi
if ! [ -x "$tools/bin/ninja" ]; then
    pip download -q --no-deps --dest "$tools" ninja==1.13.0
    python3 - "$tools" << 'END'
import glob, os, sys, zipfile
tools = sys.argv[1]
with zipfile.ZipFile(glob.glob(f"{tools}/ninja-*.whl")[0]) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith("/scripts/ninja"))
    with open(f"{tools}/bin/ninja", "wb") as ninja:
        ninja.write(wheel.read(name))
os.chmod(f"{tools}/bin/ninja", 0o755)
END
fi
"$tools/bin/make" --version | head -n 1
echo "ninja $("$tools/bin/ninja" --version)"
