# shellcheck shell=bash
# Bare Debian systems for the tests that need a whole one. Sourced by scripts
# that have set $root; sets $build, $dir (for files; the bare systems stay
# there for the next run) and $log.

PATH=$PATH:/usr/sbin:/sbin
build=${BUILD:-$root/build}
dir=$build/deb
log=$dir/log
uplot=${UPLOT:-$build/uplot/node_modules/uplot}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

passed=0
failed=0

# alone SCRIPT ARGUMENT...: the script again, in namespaces of its own: mounts
# and processes go with it, however it ends
alone() {
    [ "$EUID" = 0 ] || {
        echo "$1: chroots need root" >&2
        exit 1
    }

    [ -z "${HYBRID_ALONE:-}" ] || {
        mkdir -p "$dir"
        : > "$log"
        trap finish EXIT
        return 0
    }

    export HYBRID_ALONE=1
    exec unshare --mount --pid --fork --kill-child --mount-proc "$@"
}

ok() {
    local what=$1
    shift

    if "$@" >> "$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok: $what"
    else
        failed=$((failed + 1))
        echo "not ok: $what"
        tail -n 8 "$log" | sed 's/^/    /'
    fi
}

# so_far: without that the rest makes no sense
so_far() {
    [ "$failed" = 0 ] || {
        total
        exit 1
    }
}

# total: the last line, and the status
total() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}


# -- systems

# what the machine itself uses
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' \
        'Origin: Debian' | grep -v -- -security | head -n 1
}

# bare SUITE: a minimal system as a tar file, kept
bare() {
    local suite=$1

    [ ! -f "$dir/$suite.tar" ] || return 0

    rm -rf "$dir/$suite.new"
    debootstrap --variant=minbase "$suite" "$dir/$suite.new" "$(mirror)" \
        || return

    # a suite that moves has an index older than its date says
    echo 'Acquire::Check-Valid-Until "false";' \
        > "$dir/$suite.new/etc/apt/apt.conf.d/90hybrid"
    printf '#!/bin/sh\nexit 101\n' > "$dir/$suite.new/usr/sbin/policy-rc.d"
    chmod +x "$dir/$suite.new/usr/sbin/policy-rc.d"

    tar -C "$dir/$suite.new" --one-file-system -cf "$dir/$suite.tar.part" . \
        || return
    rm -rf "$dir/$suite.new"
    mv "$dir/$suite.tar.part" "$dir/$suite.tar"
}

# fresh SUITE: $system is a new one
fresh() {
    [ -z "${system:-}" ] || gone
    system=$(mktemp -d "$dir/$1.XXXXXX")
    chmod 755 "$system"
    tar -xf "$dir/$1.tar" -C "$system"
    mount -t proc proc "$system/proc"
    mount --bind /dev "$system/dev"
    cp /etc/resolv.conf /etc/hosts "$system/etc/"
}

gone() {
    umount "$system/dev" "$system/proc" 2>> "$log" || true

    # never through a mount that stayed
    rm -rf --one-file-system "$system"
    system=
}

inside() {
    chroot "$system" /usr/bin/env -i \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive "$@"
}

finish() {
    [ -z "${system:-}" ] || gone
}


# -- the package

# built SUITE: in $dir/deb-SUITE, from what git has of this tree
built() {
    local suite=$1

    fresh "$suite" || return
    mkdir "$system/src" "$system/uplot"

    (cd "$root" && { git ls-files -coz --exclude-standard 2> /dev/null \
        || find . -path ./build -prune -o -type f -printf '%P\0'; } \
        | tar --null -T - -c) | tar -xC "$system/src" || return
    cp -r "$uplot/dist" "$uplot/LICENSE" "$system/uplot/" || return

    inside apt-get -q update < /dev/null || return
    inside apt-get -q install -y --no-install-recommends \
        dpkg-dev build-essential < /dev/null || return
    inside env -C /src apt-get -q build-dep -y --no-install-recommends . \
        < /dev/null || return
    inside env -C /src UPLOT=/uplot dpkg-buildpackage -b -us -uc \
        < /dev/null || return

    rm -rf "$dir/deb-$suite"
    mkdir "$dir/deb-$suite"
    cp "$system"/*.deb "$dir/deb-$suite/" || return
    rm -f "$dir/deb-$suite"/*dbgsym*
}

installed() {
    cp "$1" "$system/tmp/package.deb" \
        && inside apt-get -q install -y --no-install-recommends \
            -o Dpkg::Options::=--force-confdef /tmp/package.deb < /dev/null
}
