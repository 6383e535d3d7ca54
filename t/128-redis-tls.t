# TLS to Redis: who is believed, what is said when somebody is not, and that a
# worker does not wait.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;

my $root = $ENV{HYBRID_ROOT} || '.';
my ($module) = grep { -f } map { "$_/ngx_http_hybrid_module.so" }
    grep { defined } $ENV{HYBRID_BUILD}, "$root/build", 'build';

if (slurp($module) !~ /redisInitiateSSL/) {
    plan(skip_all => 'this hiredis has no TLS');
}

if (`redis-cli --help 2>&1` !~ /--tls/) {
    plan(skip_all => 'this redis-server has no TLS');
}

my $dir = dir();

sub openssl {
    system('sh', '-c', 'exec openssl "$@" 2>"$0"', "$dir/openssl", @_) == 0
        or die "openssl @_: " . slurp("$dir/openssl");
    return;
}

sub issue {
    my ($ca, $name, $san) = @_;
    my @key = qw(req -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256);
    if (!$ca) {
        openssl(@key, '-x509', '-days', 3, '-subj', "/CN=$name", '-keyout',
            "$dir/$name.key", '-out', "$dir/$name.pem");
        return;
    }
    spew("$dir/$name.ext", $san ? "subjectAltName=$san\n" : '');
    openssl(@key, '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out',
        "$dir/$name.csr");
    openssl(qw(x509 -req -days 3 -set_serial), 1 + int rand 1e9, '-in',
        "$dir/$name.csr", '-CA', "$dir/$ca.pem", '-CAkey', "$dir/$ca.key",
        '-extfile', "$dir/$name.ext", '-out', "$dir/$name.pem");
    return;
}

issue(undef, 'ca');
issue(undef, 'other');
issue('ca', 'address', 'DNS:redis.test,IP:127.0.0.1');
issue('ca', 'named', 'DNS:redis.test');
issue('ca', 'gateway');

sub server {
    my ($name, $cert, @more) = @_;
    my $port = free_port();
    my $redis = redis(name => $name, args => [ '--tls-port', $port,
        '--tls-cert-file', "$dir/$cert.pem", '--tls-key-file',
        "$dir/$cert.key", '--tls-ca-cert-file', "$dir/ca.pem",
        '--tls-auth-clients', 'no', @more ]);
    $redis->{tls_port} = $port;
    return $redis;
}

my $address = server('address', 'address');
my $named = server('named', 'named');
my $strict = server('strict', 'address', '--tls-auth-clients', 'yes');
my $client = client_block('c0', 'rate 1000r/s burst=1000;');

sub start {
    my ($where, %o) = @_;
    return gateway(workers => $o{workers} // 1, http => "hybrid_zone 1m;\n"
        . "hybrid_redis 127.0.0.1:$where timeout=5s;\n$client->{conf}"
        . "hybrid_backend none { pass http://127.0.0.1:9; models a;"
        . " probe off; }\nhybrid_route * none;\n");
}

# a list of models needs no backend, but a credit
sub limits {
    my ($gw) = @_;
    my $answer = raw_http($gw->{port}, "GET /api/tags HTTP/1.1\r\nHost: x\r\n"
        . "$client->{headers}Connection: close\r\n\r\n");
    return "$answer->{status} "
        . ($answer->{headers}{'x-hybrid-limits'} // '-');
}

my @bad = (qr/\[error\].*redis "/, qr/revocations/, qr/levers/);


my %good = (
    'an address' => "$address->{tls_port} tls=on tls_ca=$dir/ca.pem",
    'a name' => "$named->{tls_port} tls tls_ca=$dir/ca.pem"
        . ' tls_name=redis.test',
    'a client certificate' => "$strict->{tls_port} tls=on tls_ca=$dir/ca.pem"
        . " tls_certificate=$dir/gateway.pem tls_key=$dir/gateway.key",
    'tls=off' => "$address->{port} tls=off",
);

for my $what (sort keys %good) {
    my $gw = start($good{$what});
    ok(wait_until(sub { limits($gw) eq '200 -' }), "$what: by Redis");
    is(limits($gw), '200 -', 'and again') for 1 .. 3;
    log_is_clean($gw);
    ok($gw->stop, 'ended');
}

my %bad = (
    'another address' => [ "$named->{tls_port} tls=on tls_ca=$dir/ca.pem",
        qr/is away \(TLS: IP address mismatch\)/ ],
    'another name' => [ "$named->{tls_port} tls=on tls_ca=$dir/ca.pem"
        . ' tls_name=edis.test', qr/is away \(TLS: hostname mismatch\)/i ],
    'an unknown CA' => [ "$address->{tls_port} tls=on tls_ca=$dir/other.pem",
        qr/is away \(TLS: (?:self-signed|unable to get .*) certificate/ ],
    "none of the system's CAs" => [ "$address->{tls_port} tls=on",
        qr/is away \(TLS: (?:self-signed|unable to get .*) certificate/ ],
    'no client certificate' => [ "$strict->{tls_port} tls=on"
        . " tls_ca=$dir/ca.pem", qr/is away \(.*certificate required/ ],
    'a Redis without' => [ "$address->{port} tls=on tls_ca=$dir/ca.pem",
        qr/is away/ ],
    'a gateway without' => [ "$address->{tls_port}", qr/is away/ ],
);

for my $what (sort keys %bad) {
    my ($where, $why) = @{ $bad{$what} };
    my $gw = start($where);
    ok(wait_until(sub { limits($gw) eq '200 local' }), "$what: not by Redis");
    ok(wait_until(sub { slurp($gw->{log}) =~ $why }), 'the log says why')
        or diag(slurp($gw->{log}));
    is(limits($gw), '200 local', 'nor later');
    unlike(slurp($gw->{log}), qr/ignoring stale global SSL error/,
        'no error is left');
    log_is_clean($gw, @bad);
    ok($gw->stop, 'ended');
}


subtest 'Redis comes and goes under load' => sub {
    my $gw = start($good{'an address'}, workers => 2);
    ok(wait_until(sub { limits($gw) eq '200 -' }), 'by Redis');
    my $load = load(rate => 150, request => sub { return ($gw,
        "GET /api/tags HTTP/1.1\r\nHost: x\r\n$client->{headers}"
        . "Connection: close\r\n\r\n") });
    for (1 .. 2) {
        ok($address->stop('KILL'), 'killed');
        ok(wait_until(sub { limits($gw) eq '200 local' }), 'local');
        ok($address->start, 'started');
        ok(wait_until(sub { limits($gw) eq '200 -' }, 30), 'by Redis again');
    }

    # one that takes connections and says nothing
    $address->freeze;
    my $from = now();
    is((split ' ', limits($gw))[0], 200, 'answered') for 1 .. 2;
    $address->thaw;
    ok(wait_until(sub { limits($gw) eq '200 -' }, 30), 'by Redis again');
    ok($gw->reload, 'reload');
    ok(wait_until(sub { limits($gw) eq '200 -' }, 30), 'by Redis');

    my %n = %{ numbers($load->stop) };
    is_deeply([ keys %n ], [ 200 ], 'no failed request')
        or diag(explain(\%n));
    log_is_clean($gw, @bad);
    ok($gw->stop, 'ended');
};


all_ended();
done_testing();
