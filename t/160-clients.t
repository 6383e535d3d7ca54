# The official npm clients "ollama" and "openai", unmodified but for base URL
# and key, through the gateway: over HTTP/1.1 and TLS, with Redis and after
# it was killed.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $root = $ENV{HYBRID_ROOT} || '.';
my $build = $ENV{HYBRID_BUILD} || "$root/build";
my $modules = "$build/clients/node_modules";

plan(skip_all => 'no npm clients: tools/deps test installs them')
    if !-d "$modules/ollama" || !-d "$modules/openai";

# where node finds the packages: ES modules do not look at NODE_PATH

my $home = dir() . '/clients';
mkdir $home;
symlink $modules, "$home/node_modules" or die "symlink: $!";
HybridRedis::spew("$home/chat.mjs", HybridRedis::slurp(
    "$root/t/clients/chat.mjs"));

my $forge = backend(name => 'forge', models => 'mistral:7b',
    args => { 'token-ms' => 5 });
my $anvil = backend(name => 'anvil', models => 'bge-m3,private:1b');
my $redis = redis(name => 'redis');

my $client = client_block('lightrag', 'rate 200r/s burst=100;',
    models => 'mistral:* bge-m3');


# a CA of our own and a certificate for 127.0.0.1 and localhost

sub openssl {
    my (@args) = @_;
    my $out = `openssl @args 2>&1`;
    is($?, 0, "openssl $args[0]") or diag($out);
    return;
}

my $ca = dir() . '/ca';
my $own = dir() . '/gateway';
my $ec = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

openssl("req -x509 $ec -days 2 -subj '/CN=Test CA' -keyout $ca.key"
    . " -out $ca.pem");
openssl("req $ec -subj '/CN=gateway' -keyout $own.key -out $own.csr");
HybridRedis::spew("$own.ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
openssl("x509 -req -in $own.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial"
    . " -days 2 -extfile $own.ext -out $own.pem");


my $gw = gateway(workers => 2,
    tls => { cert => "$own.pem", key => "$own.key" },
    http => "hybrid_zone 2m;\n"
        . "hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;\n"
        . $client->{conf}
        . "upstream forge { zone forge 64k; keepalive 8;"
        . " server 127.0.0.1:$forge->{port}; }\n"
        . "upstream anvil { zone anvil 64k; keepalive 8;"
        . " server 127.0.0.1:$anvil->{port}; }\n"
        . "hybrid_backend forge { pass http://forge; models mistral:7b; }\n"
        . "hybrid_backend anvil { pass http://anvil;"
        . " models bge-m3 private:1b; }\n"
        . "hybrid_route mistral:* forge;\n"
        . "hybrid_route * anvil;\n");


# its TAP becomes a subtest of ours
sub clients {
    my ($what, $url, %env) = @_;
    local @ENV{qw(HYBRID_URL HYBRID_ID HYBRID_SECRET HYBRID_DENIED_MODEL)}
        = ($url, 'lightrag.access', $client->{secret}, 'private:1b');
    local @ENV{keys %env} = values %env;
    delete local @ENV{qw(HTTP_PROXY HTTPS_PROXY http_proxy https_proxy)};

    my $out = `cd $home && timeout 60 node chat.mjs 2>&1`;
    my $status = $?;

    subtest $what => sub {
        my ($count) = $out =~ /^1\.\.(\d+)$/m;
        my @results = $out =~ /^((?:not )?ok \d+ - .*)$/mg;
        is($status, 0, 'node ends well');
        cmp_ok($count // 0, '>=', 13, 'all steps are there');
        is(scalar @results, $count // -1, 'and were taken');
        for my $line (@results) {
            $line =~ /^(not )?ok \d+ - (.*)$/;
            ok(!$1, $2);
        }
        diag($out) if $status || $out =~ /^not ok/m;
    };
    return;
}

my $http = "http://127.0.0.1:$gw->{port}";
my $https = "https://127.0.0.1:$gw->{tls_port}";

ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis');

clients('HTTP/1.1', $http);
clients('TLS', $https, HYBRID_CA => "$ca.pem");

my $without = sub { return http($gw, 'GET', '/hybrid/metrics')->{body}
    =~ /^ngx_hybrid_limits_without_redis_total\{client="lightrag"\} (\d+)$/m
    ? $1 : -1 };
is($without->(), 0, 'Redis has decided all of them');
is($redis->command('TYPE', 'hybrid:{lightrag}:limits'), 'hash', 'really');

$redis->stop('KILL');

clients('HTTP/1.1, Redis killed', $http);
clients('TLS, Redis killed', $https, HYBRID_CA => "$ca.pem");
cmp_ok($without->(), '>', 10, 'now it was decided here');

# two workers, both dialects, whole and streamed: all of it is counted

my %n;
for my $row (@{ $gw->status('gateway')->{series} }) {
    $n{ "$row->{client} $row->{backend}" } += $row->{requests}{ok};
    $n{denied} += $row->{requests}{denied};
    $n{unauthorized} += $row->{requests}{unauthorized};
    $n{broken} += $row->{requests}{broken} + $row->{requests}{client_closed};
}
is($n{'lightrag forge'}, 4 * 5, 'chats and a completion, of FORGE');
is($n{'lightrag anvil'}, 4 * 2, 'embeddings, of ANVIL');
is($n{denied}, 4 * 2, 'what was denied');
is($n{unauthorized}, 4 * 2, 'wrong secrets');
is($n{broken}, 0, 'nothing broke');

# the client's secret went nowhere

for my $backend ($forge, $anvil) {
    my $asked = JSON::PP::encode_json($backend->mock('requests'));
    unlike($asked, qr/\Q$client->{secret}\E|Cf-Access|Authorization/i,
        "$backend->{name} has seen no credential");
}
unlike(HybridRedis::slurp("$gw->{home}/access.log")
    . HybridRedis::slurp($gw->{log}), qr/\Q$client->{secret}\E/,
    'nor has a log');

log_is_clean($gw, qr/\[error\].*redis "/);
all_ended();
done_testing();
