# A real Prometheus scrapes two gateways, and the rules of conf/grafana fire
# when something happens to them, and stop when it is over.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridRedis;
use HTTP::Tiny;
use JSON::PP ();
use POSIX 'strftime';
use Test::More;

my $root = $ENV{HYBRID_ROOT} // '.';
my ($prometheus) = grep { -x } map { "$_/prometheus" } split /:/, $ENV{PATH};

plan(skip_all => 'there is no prometheus') if !$prometheus;

# generous: a machine that is busy may take as long

my $patience = 60;

my $machines = Hybrid->new;
my ($forge, $anvil, $cloud) = map { $machines->backend($_,
    models => 'mistral:7b,bge-m3', tokens => 3) } qw(forge anvil cloud);
my $redis = redis(name => 'redis');

my ($alice, $bob, $fast, $old) = (
    client_block('alice', 'egress any;'),
    client_block('bob', '', models => 'bge-m3'),
    client_block('fast', 'rate 1r/h burst=1;'),
    client_block('old', ''),
);
my $until = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + 3 * 86400));
$old->{conf} =~ s/(sha256:\w+)/$1 until=$until/;

sub conf {
    return "hybrid_zone 2m;\n"
        . "hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;\n"
        . join('', map { $_->{conf} } $alice, $bob, $fast, $old)
        . join('', map { "upstream $_->{name} { zone $_->{name} 64k;"
            . " server $_->{addr} max_fails=0; }\n" } $forge, $anvil, $cloud)
        . <<'END';
    hybrid_backend forge { pass http://forge; api ollama;
                           probe interval=300ms timeout=2s fails=2 passes=2; }
    hybrid_backend anvil { pass http://anvil; api ollama;
                           probe interval=300ms timeout=2s stall=1s
                                 slow=100ms; }
    hybrid_backend cloud { pass http://cloud; api openai; egress cloud;
                           models *; probe off; }
    hybrid_route mistral:7b forge cloud;
    hybrid_route bge-m3     anvil;
END
}

my @gw = map { gateway(name => "gw$_", workers => 1, http => conf()) } 1, 2;
wait_until(sub { $_->status->{redis}{available} }) for @gw;


# -- Prometheus, with rules that need not wait for minutes

my $rules = slurp("$root/conf/grafana/alerts.yml");

$rules =~ s/^(    for:) \w+$/$1 0s/mg;
$rules =~ s/\[(?:10|15)m\]/[10s]/g;
$rules =~ s/\[1h\]/[20s]/g;
$rules =~ s/offset 10m/offset 10s/g;
$rules =~ s/offset 1h/offset 10m/g;
is(join(' ', grep { !/^(?:0s|10s|20s)$/ } $rules =~ /\[(\w+)\]/g), '',
    'all times of the rules are short');

my $home = dir() . '/prometheus';
mkdir $home;
spew("$home/alerts.yml", $rules);
spew("$home/prometheus.yml", <<"END");
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [alerts.yml]
scrape_configs:
- job_name: hybrid
  metrics_path: /hybrid/metrics
  params: {scope: [gateway]}
  static_configs:
  - targets: ['127.0.0.1:$gw[0]{port}', '127.0.0.1:$gw[1]{port}']
END

my $http = HTTP::Tiny->new(timeout => 20, http_proxy => undef,
    all_proxy => undef);
my ($pid, $port);

sub api {
    my ($path) = @_;
    my $r = $http->get("http://127.0.0.1:$port$path");
    my $json = eval { JSON::PP::decode_json($r->{content}) } // {};
    return $json->{data};
}

sub query {
    my ($expr) = @_;
    $expr =~ s/([^A-Za-z0-9_])/sprintf '%%%02X', ord $1/ge;
    return (api("/api/v1/query?query=$expr") // {})->{result} // [];
}

sub value {
    my ($expr) = @_;
    my $result = query($expr);
    return @$result ? $result->[0]{value}[1] : undef;
}

for (1 .. 5) {
    $port = free_port();
    $pid = HybridRedis::spawn('prometheus', "$home/output", $prometheus,
        "--config.file=$home/prometheus.yml",
        "--storage.tsdb.path=$home/data", '--log.level=warn',
        "--web.listen-address=127.0.0.1:$port");
    last if wait_until(sub { HybridRedis::ended($pid)
        || $http->get("http://127.0.0.1:$port/-/ready")->{success} },
        $patience) && !HybridRedis::ended($pid);
    last if slurp("$home/output") !~ /address already in use/;
}

ok(wait_until(sub { (value('sum(up)') // 0) == 2 }, $patience, 0.2),
    'both gateways are scraped') or diag(slurp("$home/output"));


# "name label label": those that fire, by what tells them from others
sub firing {
    my $alerts = (api('/api/v1/alerts') // {})->{alerts} // [];
    my %names = ("127.0.0.1:$gw[0]{port}" => 'gw1',
                 "127.0.0.1:$gw[1]{port}" => 'gw2');
    return { map { my $l = $_->{labels};
        (join(' ', $l->{alertname}, map { $names{$_} // $_ }
            grep { defined } @$l{qw(instance client backend reason)}) => $_)
        } grep { $_->{state} eq 'firing' } @$alerts };
}

# ok when all of them fire at once, or did before
sub fires {
    my ($what, $traffic, @wanted) = @_;
    my %seen;
    ok(wait_until(sub {
        $traffic->() if $traffic;
        my $firing = firing();
        @seen{keys %$firing} = values %$firing;
        return !grep { !$seen{$_} } @wanted;
    }, $patience, 0.2), $what) or diag(explain([ sort keys %seen ]));
    return \%seen;
}

sub ends {
    my ($what, @wanted) = @_;
    my $firing;
    ok(wait_until(sub { $firing = firing();
        return !grep { $firing->{$_} } @wanted }, $patience, 0.2), $what)
        or diag(explain([ sort keys %$firing ]));
}

sub ask {
    my ($gw, $client, %o) = @_;
    return raw_http($gw->{port}, post($client, path => '/v1/chat/completions',
        %o))->{status};
}


subtest 'all is well' => sub {
    for ([ 40, 0 ], [ 30, 50 ], [ 10, 250 ]) {
        my ($count, $delay) = @$_;
        $forge->behave($delay ? (delay_ms => $delay) : ());
        load(rate => 40, count => $count, request => sub {
            return ($gw[ $_[0] % 2 ], post($alice, stream => 1,
                path => '/v1/chat/completions')) })->results;
    }
    $forge->behave;

    my $name = 'ngx_hybrid_request_duration_seconds';
    ok(wait_until(sub { (value("sum(${name}_count)") // 0) == 80 }, $patience,
        0.2), 'both together have all requests');

    # what Prometheus makes of the buckets against the access logs

    my @raw = sort { $a <=> $b } map {
        map { (split ' ')[3] } grep { /^\S+ \S+ 200 / }
            split /\n/, slurp("$_->{home}/access.log") =~ s/.*GET .*\n//mgr
    } @gw;
    is(scalar @raw, 80, 'so have the logs');

    my %le = map { ($_->{metric}{le} => $_->{value}[1]) }
        @{ query("sum by (le) (${name}_bucket)") };
    my %bad;
    my @le = sort { $a <=> $b } grep { !/Inf/ } keys %le;

    # nginx's log has milliseconds, of a clock that stands still meanwhile

    for my $le (@le) {
        my $least = grep { $_ + 0.003 <= $le * (1 - 1 / 32) } @raw;
        my $most = grep { $_ - 0.003 <= $le * (1 + 1 / 32) } @raw;
        $bad{$le} = "$least <= $le{$le} <= $most"
            if $le{$le} < $least || $le{$le} > $most;
    }
    is_deeply(\%bad, {}, 'each bucket') or diag(explain(\@raw));

    for my $q (0.5, 0.95) {
        my $got = value("histogram_quantile($q, sum by (le)"
            . " (${name}_bucket))");
        my $raw = $raw[ int($q * 80 + 0.999) - 1 ];
        my ($low) = reverse 0, grep { $_ < $raw * (1 - 1 / 32) - 0.003 } @le;
        my ($upper) = grep { $_ > $raw * (1 + 1 / 32) + 0.003 } @le;
        cmp_ok($got, '>=', $low, "p$q $got of $raw: not below its bucket");
        cmp_ok($got, '<=', $upper, 'nor above it');
    }

    fires('a token that ends soon', undef,
        map { "HybridCredentialExpires $_ old" } qw(gw1 gw2));
    is_deeply([ grep { !/^HybridCredentialExpires/ } sort keys %{ firing() } ],
        [], 'no other alert');

    # counters that begin are not seen

    is(ask($gw[0], $bob, model => 'bge-m3'), 200, 'bob');
    is(ask($gw[0], $bob), 403, 'bob, where he must not');
    is(ask($gw[0], $bob, model => 'bge-m3'), 200, 'bob');
    is(ask($gw[0], $fast), $_, 'fast') for 200, 429;
    ok(wait_until(sub { (value('ngx_hybrid_requests_total{client="fast",'
        . 'outcome="limited"}') // 0) >= 1
        && (value('ngx_hybrid_refusals_total{client="bob"}') // 0) >= 1 },
        $patience, 0.2), 'the first refusals');
};


subtest 'faults' => sub {
    $forge->stop;
    $anvil->loaded('bge-m3' => -100);
    $anvil->models('mistral:7b');
    $anvil->behave(delay_ms => 200, probes => 'only');
    $redis->stop;
    $gw[1]->stop;

    my %wrong = (headers => $bob->{headers} =~ s/the-/no-/r);
    my $seen = fires('the alerts fire', sub {
            ask($gw[0], $bob) for 1 .. 10;
            ask($gw[0], $fast) for 1 .. 5;
            ask($gw[0], $alice) for 1 .. 2;
            load(rate => 200, count => 20, timeout => 0.5, request => sub {
                return ($gw[0], post(\%wrong)) })->results;
        },
        'HybridBackendDown gw1 forge', 'HybridPathDown gw1 forge',
        'HybridBackendWedged gw1 anvil', 'HybridRedisAway gw1',
        'HybridGatewayDown gw2', 'HybridPromptsLeaveHouse alice cloud',
        'HybridRefusalsRising bob model_denied', 'HybridLimited fast',
        'HybridAuthenticationFailures gw1 invalid',
        'HybridClientRefused gw1 bob', 'HybridModelMissing gw1 anvil',
        'HybridProbeSlow gw1 anvil');

    my $one = $seen->{'HybridBackendDown gw1 forge'};
    is($one->{labels}{severity}, 'critical', 'how bad it is');
    like($one->{annotations}{summary}, qr/^Backend forge is down$/, 'what');
    like($one->{annotations}{description}, qr/whether the machine is on/,
        'and what to do');
};


subtest 'all is well again' => sub {
    $forge->start;
    $anvil->loaded('bge-m3' => 300);
    $anvil->models(qw(mistral:7b bge-m3));
    $anvil->behave;
    ok($redis->start, 'Redis');
    ok($gw[1]->start, 'the gateway');

    ends('the alerts are over', 'HybridBackendDown gw1 forge',
        'HybridPathDown gw1 forge', 'HybridBackendWedged gw1 anvil',
        'HybridRedisAway gw1', 'HybridGatewayDown gw2',
        'HybridModelMissing gw1 anvil', 'HybridProbeSlow gw1 anvil');
    is(ask($gw[0], $bob, model => 'bge-m3'), 200, 'bob');
    ends('this, too', 'HybridClientRefused gw1 bob');
};


kill 'TERM', $pid;
ok(HybridRedis::ended($pid, $patience), 'Prometheus ended');
my @errors = grep { /level=(?:warn|error)/ } split /\n/,
    slurp("$home/output");
is_deeply([ grep { /rule|scrape|manager/i } @errors ], [],
    'it has nothing to complain about');
ok($_->stop, 'ended') for @gw;
$_->stop for $forge, $anvil, $cloud;
all_ended();
done_testing();
