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
#                          version, and where each belongs in /etc/nginx/hybrid
#
# A configuration that nginx refuses changes nothing, and the script fails. A
# secret that cannot be had leaves the old file, and the script fails in the
# end. A file whose secret is not named any more is removed. Tailscale, when it
# is wanted, is not installed here: its repository and its key are yours.

set -euo pipefail

etc=/etc/nginx
module=libnginx-mod-http-hybrid
examples=/usr/share/doc/$module/examples/gcp
state=/var/lib/hybrid-gateway
metadata=http://169.254.169.254/computeMetadata/v1
export DEBIAN_FRONTEND=noninteractive

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

action=                         # what nginx needs: reload or restart
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
        -o Dpkg::Options::=--force-confold)

    "${apt[@]}" --allow-downgrades install "$@" < /dev/null \
        || { "${apt[@]}" update < /dev/null \
             && "${apt[@]}" --allow-downgrades install "$@" < /dev/null; } \
        || die "$* cannot be installed"
}

# placed FILE WHERE MODE GROUP: true when it was another file or none; the
# one it replaces is kept until nginx has taken the new one
placed() {
    if cmp -s "$1" "$2"; then
        chgrp "$4" "$2"
        chmod "$3" "$2"
        return 1
    fi

    if [ -e "$2" ]; then
        mkdir -p "$work/old$(dirname "$2")"
        cp -p "$2" "$work/old$2"
    fi

    # errors do not end the script by themselves in what a condition calls
    (umask 022 && mkdir -p "$(dirname "$2")") && cp "$1" "$2.new" \
        && chgrp "$4" "$2.new" && chmod "$3" "$2.new" && mv "$2.new" "$2" \
        || die "$2 cannot be written"
    echo "$2" >> "$work/placed"
    say "$2 is new"
}

back() {
    local file

    while read -r file; do
        if [ -e "$work/old$file" ]; then
            mv "$work/old$file" "$file"
        else
            rm -f "$file"
        fi
    done < "$work/placed"
}


# -- steps

packages() {
    local want=() name

    for name in nginx redis-server ca-certificates curl; do
        has "$name" || want+=("$name")
    done

    [ "${#want[@]}" = 0 ] || apt_install "${want[@]}"
}

module() {
    local url sum wanted

    url=$(attribute hybrid-package)

    if [ -z "$url" ]; then
        has "$module" || die "no attribute hybrid-package"
        return
    fi

    if ! fetched "$url" "$work/$module.deb"; then
        has "$module" || die "$url cannot be had"
        say "$url cannot be had, the installed package stays" >&2
        failed=1
        return
    fi

    sum=$(sha256sum < "$work/$module.deb")
    sum=${sum%% *}
    wanted=$(attribute hybrid-package-sha256)
    [ -z "$wanted" ] || [ "$wanted" = "$sum" ] \
        || die "$url is not the package of hybrid-package-sha256: $sum"

    ! has "$module" || [ "$(cat "$state/package" 2> /dev/null)" != "$sum" ] \
        || return 0

    # a version may need a zone of its own layout: a reload would refuse it
    apt_install --reinstall "$work/$module.deb"
    action=restart
    echo "$sum" > "$state/package"
    say "installed $(dpkg-query -W "$module")"
}

redis() {
    local conf=/etc/redis/redis.conf

    # revocations outlive a restart, and it never takes the gateway's memory
    cat > "$work/redis" <<'END'
# by the gateway's startup script
bind 127.0.0.1 -::1
maxmemory 64mb
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
save ""
END

    if placed "$work/redis" /etc/redis/hybrid.conf 640 redis \
        || ! grep -q '^include /etc/redis/hybrid.conf' "$conf"
    then
        grep -q '^include /etc/redis/hybrid.conf' "$conf" \
            || echo 'include /etc/redis/hybrid.conf' >> "$conf"
        systemctl restart redis-server
    fi

    systemctl -q enable redis-server
    systemctl start redis-server
}

secrets() {
    local list pairs pair name path

    project=$(get -H 'Metadata-Flavor: Google' \
        "$metadata/project/project-id")
    list=$(attribute hybrid-secrets)
    IFS=, read -ra pairs <<< "$list"
    : > "$work/files"
    : > "$work/placed"

    for pair in "${pairs[@]}"; do
        pair=${pair//[[:space:]]/}
        name=${pair%%=*} path=${pair#*=}

        [[ $name =~ ^[A-Za-z0-9_-]+$ && \
           $path =~ ^(clients\.d/|secrets/)[A-Za-z0-9_-][A-Za-z0-9_.-]*$ ]] \
            || die "hybrid-secrets: \"$pair\" is not NAME=clients.d/FILE" \
                "or NAME=secrets/FILE"

        echo "$etc/hybrid/$path" >> "$work/files"

        if ! secret "$name" "$work/secret"; then
            say "secret $name cannot be had: $etc/hybrid/$path stays" >&2
            failed=1
            continue
        fi

        ! placed "$work/secret" "$etc/hybrid/$path" 640 www-data \
            || action=${action:-reload}
    done

    # who is not named any more has no way in
    [ ! -f "$state/files" ] || while read -r path; do
        if ! grep -qxF "$path" "$work/files" && [ -e "$path" ]; then
            mkdir -p "$work/old$(dirname "$path")"
            mv "$path" "$work/old$path"
            echo "$path" >> "$work/placed"
            action=${action:-reload}
            say "$path is gone"
        fi
    done < "$state/files"
}

configuration() {
    local url

    url=$(attribute hybrid-config)

    if [ -n "$url" ]; then
        if ! fetched "$url" "$work/nginx.conf"; then
            say "$url cannot be had: $etc/nginx.conf stays" >&2
            failed=1

        elif placed "$work/nginx.conf" "$etc/nginx.conf" 644 root; then
            action=${action:-reload}
        fi
    fi

    # with it nginx makes logs that are not there yet
    (umask 027 && nginx -t -q) || {
        back
        die "nginx refuses that: the old configuration stays"
    }

    cp "$work/files" "$state/files"
}

service() {
    local dir=/etc/systemd/system/nginx.service.d

    if placed "$examples/hardening.conf" "$dir/hybrid.conf" 644 root; then
        systemctl daemon-reload
        action=restart
    fi

    systemctl -q enable nginx

    if ! systemctl -q is-active nginx; then
        action=start
    fi

    [ -z "$action" ] || systemctl "$action" nginx
}


[ "$EUID" = 0 ] || die "not root"

mkdir -p "$state"
: > "$work/placed"

packages
module
redis
secrets
configuration
service

[ -z "$failed" ] || die "not all of it is up to date"
say "ready${action:+, nginx: $action}"
