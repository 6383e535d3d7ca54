#!/usr/bin/env bash
# Makes a Debian 12 VM of Compute Engine a gateway, as its startup script: at
# the first boot, and again at each one. What is there already stays, so it can
# also be run by hand, after a secret or the configuration has changed:
#
#   google_metadata_script_runner startup
#
# Attributes of the instance (the terraform/ beside this sets them):
#
#   hybrid-package         the .deb of "make package": gs:// or https://
#   hybrid-package-sha256  of that file; without it only the transport is
#                          trusted
#   hybrid-config          nginx.conf, gs:// or https://; without it nginx's
#                          configuration is left alone
#   hybrid-secrets         NAME=FILE,...: secrets of Secret Manager, latest
#                          version, and where each belongs in
#                          /etc/nginx/hybrid; without it those files are left
#                          alone
#
# All is fetched before hybrid-apply(1) changes anything: a configuration that
# nginx refuses leaves the old one, a secret that cannot be had leaves its file,
# one that is not named any more takes its file away. What could not be done is
# said, and the script fails in the end. Tailscale, when it is wanted, is not
# installed here: its repository and its key are yours.

set -euo pipefail

etc=/etc/nginx
module=libnginx-mod-http-hybrid
examples=/usr/share/doc/$module/examples/gcp
state=/var/lib/hybrid           # as hybrid-apply has it
metadata=http://169.254.169.254/computeMetadata/v1
export DEBIAN_FRONTEND=noninteractive

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed=

say() {
    echo "hybrid: $*"
}

die() {
    say "$*" >&2
    exit 1
}


# -- Google

get() {
    curl -sS --fail --noproxy '*' --proto '=http,https' --max-time 60 \
        --retry 5 --retry-connrefused --retry-max-time 120 "$@"
}

# attribute NAME: its value, nothing when there is none
attribute() {
    local code

    code=$(curl -sS --noproxy '*' --max-time 10 --retry 5 \
        --retry-connrefused -H 'Metadata-Flavor: Google' \
        -o "$work/attribute" -w '%{http_code}' \
        "$metadata/instance/attributes/$1") || die "no metadata server"

    case $code in
    200) cat "$work/attribute" ;;
    404) ;;
    *) die "the metadata server says $code for \"$1\"" ;;
    esac
}

# authorized CURL-ARGUMENT...: with the VM's own token, which stays off the
# list of processes
authorized() {
    local token

    token=$(get -H 'Metadata-Flavor: Google' \
        "$metadata/instance/service-accounts/default/token" \
        | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
    [ -n "$token" ] || die "the VM has no service account"

    printf 'header = "Authorization: Bearer %s"\n' "$token" \
        | get --proto '=https' -K - "$@"
}

escaped() {
    local LC_ALL=C text=$1 i c

    for ((i = 0; i < ${#text}; i++)); do
        c=${text:i:1}
        case $c in
        [A-Za-z0-9._~-]) printf %s "$c" ;;
        *) printf '%%%02X' "'$c" ;;
        esac
    done
}

# fetched URL FILE
fetched() {
    local rest=${1#gs://}

    case $1 in
    gs://*/*)
        authorized -o "$2" "https://storage.googleapis.com/storage/v1/b/\
${rest%%/*}/o/$(escaped "${rest#*/}")?alt=media"
        ;;
    https://*)
        get --proto '=https' -L -o "$2" "$1"
        ;;
    *)
        say "\"$1\" is neither gs:// nor https://" >&2
        return 1
        ;;
    esac
}

# secret NAME FILE
secret() {
    authorized "https://secretmanager.googleapis.com/v1/projects/$project/\
secrets/$1/versions/latest:access" \
        | tr -d '\n' | sed -n 's/.*"data" *: *"\([^"]*\)".*/\1/p' \
        | base64 -d > "$2" && [ -s "$2" ]
}


# -- this machine

has() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null)" = \
        installed ]
}

apt_install() {
    local apt=(apt-get -q -y --no-install-recommends
        -o DPkg::Lock::Timeout=600 -o APT::Sandbox::User=root
        -o Dpkg::Options::=--force-confold) try

    # what a power cut has left
    dpkg --configure -a < /dev/null || true

    # at a first boot there are no lists yet, or others are getting them
    for try in 1 2 3 4 5; do
        ! "${apt[@]}" --allow-downgrades install "$@" < /dev/null || return 0
        [ "$try" = 1 ] || sleep 30
        "${apt[@]}" update < /dev/null || true
    done

    return 1
}

later() {
    say "$*" >&2
    failed=1
}


# -- steps

packages() {
    local want=() name

    for name in nginx redis-server ca-certificates curl; do
        has "$name" || want+=("$name")
    done

    [ "${#want[@]}" = 0 ] || apt_install "${want[@]}" \
        || die "${want[*]} cannot be installed"
}

# another package than was meant, or none: what is there goes on
module() {
    local url sum wanted

    url=$(attribute hybrid-package)
    wanted=$(attribute hybrid-package-sha256)

    if [ -z "$url" ]; then
        later "no attribute hybrid-package"
        return
    fi

    if ! fetched "$url" "$work/$module.deb"; then
        later "$url cannot be had"
        return
    fi

    sum=$(sha256sum < "$work/$module.deb")
    sum=${sum%% *}

    if [ -n "$wanted" ] && [ "$wanted" != "$sum" ]; then
        later "$url is not the package of hybrid-package-sha256: $sum"
        return
    fi

    ! has "$module" || [ "$(cat "$state/package" 2> /dev/null)" != "$sum" ] \
        || return 0

    # a reload never loads another module
    touch "$state/restart"

    if apt_install --reinstall "$work/$module.deb"; then
        echo "$sum" > "$state/package"
        say "installed $(dpkg-query -W "$module")"
    else
        later "$url cannot be installed"
    fi
}

# revocations outlive a restart, nobody else on this machine gives them back,
# and it never takes the gateway's memory
redis() {
    local conf=/etc/redis/redis.conf

    cat > "$work/redis" <<'END'
# by the gateway's startup script
port 0
unixsocket /run/redis/redis-server.sock
unixsocketperm 770
maxmemory 64mb
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
save ""
END

    id -nG www-data | grep -qw redis || {
        usermod -a -G redis www-data
        touch "$state/restart"
    }

    if ! cmp -s "$work/redis" /etc/redis/hybrid.conf \
        || ! grep -q '^include /etc/redis/hybrid.conf' "$conf"
    then
        install -m 640 -g redis "$work/redis" /etc/redis/hybrid.conf
        grep -q '^include /etc/redis/hybrid.conf' "$conf" \
            || echo 'include /etc/redis/hybrid.conf' >> "$conf"
        systemctl restart redis-server || true
    fi

    systemctl -q enable redis-server || true
    systemctl start redis-server \
        || later "Redis does not start: the gateway goes on without it"
}

secrets() {
    local list pairs pair name path

    project=$(get -H 'Metadata-Flavor: Google' \
        "$metadata/project/project-id")
    list=$(attribute hybrid-secrets)
    IFS=, read -ra pairs <<< "${list//[[:space:]]/}"
    mkdir -p "$work/new/clients.d" "$work/new/secrets"
    : > "$work/new/files"

    if [ -z "$list" ]; then
        [ ! -e "$state/files" ] || cp "$state/files" "$work/new/files"
        return
    fi

    for pair in "${pairs[@]}"; do
        name=${pair%%=*} path=${pair#*=}

        [[ $name =~ ^[A-Za-z0-9_-]+$ && \
           $path =~ ^(clients\.d/|secrets/)[A-Za-z0-9_-][A-Za-z0-9_.-]*$ ]] \
            || die "hybrid-secrets: \"$pair\" is not NAME=clients.d/FILE" \
                "or NAME=secrets/FILE"
        echo "$path" >> "$work/new/files"

        if ! secret "$name" "$work/new/$path"; then
            rm -f "$work/new/$path"
            later "secret $name cannot be had: $etc/hybrid/$path stays"
        fi
    done
}

configuration() {
    local url

    url=$(attribute hybrid-config)

    [ -z "$url" ] || fetched "$url" "$work/new/nginx.conf" || {
        rm -f "$work/new/nginx.conf"
        later "$url cannot be had: $etc/nginx.conf stays"
    }
}

hardening() {
    local dir=/etc/systemd/system/nginx.service.d

    ! cmp -s "$examples/hardening.conf" "$dir/hybrid.conf" || return 0

    if [ -f "$examples/hardening.conf" ]; then
        touch "$state/restart"
        (umask 022 && install -D -m 644 "$examples/hardening.conf" \
            "$dir/hybrid.conf")
        systemctl daemon-reload
    fi
}


[ "$EUID" = 0 ] || die "not root"

mkdir -p "$state"
exec 9> "$state/startup.lock"
flock 9                         # a boot, and somebody by hand

packages
module
has "$module" || die "without the module there is no gateway"
redis
secrets
configuration
hardening
hybrid-apply "$work/new" || failed=1

[ -z "$failed" ] || die "not all of it is up to date"
say "ready"
