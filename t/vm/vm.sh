# shellcheck shell=bash
# A bare Debian 12 with a real systemd, in namespaces of its own. Sourced by
# scripts that have set $root; needs root, debootstrap and cgroup v2. The
# machine's own network and services are not touched.

# shellcheck source=t/lib/bare.sh
. "$root/t/lib/bare.sh"

home=$dir/cloud
cloud=10.99.0.1                 # all of the cloud's names lead there
cgroup=
pids=()
init=


# certificates NAME...: a CA in $home/ca.pem, tls.pem and tls.key for all names
certificates() {
    rm -rf "$home"
    mkdir -p "$home"/{attributes,secrets,objects/conf}

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -days 3 -subj '/CN=Test CA' -keyout "$home/ca.key" \
        -out "$home/ca.pem" || return
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj '/CN=test' -keyout "$home/tls.key" -out "$home/tls.csr" || return
    openssl x509 -req -days 3 -CAcreateserial -in "$home/tls.csr" \
        -CA "$home/ca.pem" -CAkey "$home/ca.key" -out "$home/tls.pem" \
        -extfile <(printf 'subjectAltName=%s' \
                   "$(printf 'DNS:%s\n' "$@" | paste -sd ,)")
}

# prepared NAME...: a system in which apt finds the module, nginx and Redis;
# it trusts the CA, and the names are those of the cloud. $packages more.
prepared() {
    fresh bookworm || return
    inside apt-get -q update < /dev/null || return
    # shellcheck disable=SC2086
    inside apt-get -q -y --no-install-recommends install systemd-sysv dbus \
        ca-certificates curl logrotate procps ${packages:-} < /dev/null \
        || return
    cp "$home/ca.pem" "$system/usr/local/share/ca-certificates/test.crt"
    inside update-ca-certificates || return
    cp "$deb" "$system/tmp/package.deb"
    inside apt-get -q -y --no-install-recommends --download-only install \
        nginx redis-server /tmp/package.deb < /dev/null || return
    rm "$system/tmp/package.deb" "$system/usr/sbin/policy-rc.d"
    printf "$cloud %s\n" "$@" >> "$system/etc/hosts"
    umount "$system/dev" "$system/proc"
}

# booted ADDRESS...: with these addresses, and no way out
booted() {
    local addresses

    addresses=$(printf '%s/32 ' "$@")
    cgroup=$(findmnt -nt cgroup2 -o TARGET | head -n 1)
    cgroup=$(mktemp -d "$cgroup/hybrid-vm.XXXXXX") || return

    # shellcheck disable=SC2016
    (
        echo "$BASHPID" > "$cgroup/cgroup.procs"
        exec unshare --mount --pid --net --uts --ipc --cgroup --fork \
            --kill-child -- bash -c '
            set -e
            cd "$1"
            mount --make-rprivate /
            mount --bind . .
            cd "$1"
            mount -t proc proc proc
            mount -t sysfs -o ro sysfs sys
            mount -t cgroup2 cgroup2 sys/fs/cgroup
            mount -t tmpfs -o mode=755 tmpfs dev
            for name in null zero full random urandom tty; do
                touch "dev/$name"
                mount --bind "/dev/$name" "dev/$name"
            done
            mkdir dev/pts dev/shm old
            mount -t tmpfs tmpfs dev/shm
            mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
            ln -s pts/ptmx dev/ptmx
            mount -t tmpfs tmpfs run
            mount -t tmpfs tmpfs tmp
            for address in 127.0.0.1/8 $2; do
                ip address add "$address" dev lo
            done
            ip link set lo up
            pivot_root . old
            umount -l old
            exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
                /lib/systemd/systemd --log-target=console \
                systemd.unit=multi-user.target
            ' bash "$system" "$addresses" >> "$log" 2>&1 < /dev/null
    ) &
    pids+=($!)

    for _ in $(seq 300); do
        init=$(pgrep -P "${pids[0]}" -x systemd || true)
        [ -z "$init" ] || ! vm systemctl is-active -q multi-user.target \
            || return 0
        sleep 0.1
    done

    return 1
}

# in the VM; in its network, but with this machine's files
vm() {
    nsenter --target "$init" --mount --pid --net --uts --ipc --cgroup -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"
}

near() {
    nsenter --target "$init" --net -- "$@"
}

# with &: $! is the command's own
beside() {
    exec nsenter --target "$init" --net -- "$@"
}

# there URL: within 20 s
there() {
    for _ in $(seq 100); do
        ! near curl -sk -o /dev/null "$1" || return 0
        sleep 0.2
    done

    return 1
}

# the cloud's own servers, with what is in $home
answering() {
    beside "$root/t/vm/cloud.py" "$home" "$cloud" >> "$log" 2>&1 &
    pids+=($!)
    there http://169.254.169.254/ && there "https://$cloud/"
}

# resolving ADDRESS NAME...: a DNS server that knows the cloud's names
resolving() {
    mkdir -p "$home/dns"
    printf '%s\n' "${@:2}" | python3 -c 'import json, sys
print(json.dumps({line.strip(): [sys.argv[1]] for line in sys.stdin}))' \
        "$cloud" > "$home/dns/names.json"
    beside python3 "$root/t/lib/odd_dns.py" "$home/dns" "$1" 53 \
        >> "$log" 2>&1 &
    pids+=($!)

    for _ in $(seq 100); do
        [ ! -e "$home/dns/ready" ] || return 0
        sleep 0.1
    done

    return 1
}

# machine NAME ADDRESS:PORT MODELS [OPTION...]: $! is the machine
machine() {
    beside python3 "$root/conf/demo/backend.py" --name "$1" --listen "$2" \
        --models "$3" --tokens "${tokens:-8}" --token-ms "${token_ms:-1}" \
        "${@:4}" >> "$log" 2>&1 &
    pids+=($!)
}

ended() {
    kill -KILL "$1"
    wait "$1" 2>> "$log" || true
}

finish() {
    [ "${#pids[@]}" = 0 ] || kill -KILL "${pids[@]}" 2>> "$log" || true
    wait 2>> "$log" || true

    [ -z "$cgroup" ] || for _ in $(seq 50); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>> "$log" && break
        sleep 0.1
    done

    [ -z "${system:-}" ] || gone
}


# -- what the gateway does

# client NAME MORE: sets $credential
client() {
    local secret

    secret=$(openssl rand -hex 32)
    credential="$1.access:$secret"
    printf 'hybrid_client %s {\n    token %s.access sha256:%s;\n    %s\n}\n' \
        "$1" "$1" "$(printf %s "$secret" | sha256sum | cut -d ' ' -f 1)" \
        "$2" > "$home/secrets/client-$1"
}

# ask MODEL CREDENTIAL: status, backend
ask() {
    printf 'header = "Authorization: Bearer %s"\n' "$2" \
        | vm curl -sS -K - -o /tmp/answer -D /tmp/head -w '%{http_code}' \
            --max-time 30 "$gateway/v1/chat/completions" \
            -d "{\"model\":\"$1\",\"messages\":[]}" || true
    vm sed -n 's/^x-hybrid-backend: \([a-z]*\).*/ \1/ip' /tmp/head \
        | tr -d '\n'
}

# told WANTED MODEL CREDENTIAL: within 20 s
told() {
    local got

    for _ in $(seq 100); do
        got=$(ask "$2" "$3")
        [ "$got" != "$1" ] || return 0
        sleep 0.2
    done

    echo "$got, not $1"
    return 1
}

master() {
    vm systemctl show -P MainPID nginx
}

workers() {
    vm pgrep -P "$(master)" | sort | tr '\n' ' '
}

# changed OLD: other workers, and no more than two
changed() {
    local now

    for _ in $(seq 150); do
        now=$(workers)
        if [ "$now" != "$1" ] && [ "$(wc -w <<< "$now")" = 2 ]; then
            return 0
        fi
        sleep 0.1
    done

    echo "workers: $now, were $1"
    return 1
}
