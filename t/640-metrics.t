# hybrid_status prometheus: promtool reads it, whatever has happened; the
# alert rules and the dashboard of conf/grafana are about metrics that there
# are.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use HybridOdd;
use HybridRedis;
use JSON::PP ();
use List::Util qw(sum0);
use Test::More;

my $root = $ENV{HYBRID_ROOT} // '.';
my $grafana = "$root/conf/grafana";
my $promtool = (grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH})[0];

# names => why: what a rule or a panel is about that is not in the output here

my %not_here = ();

my @bounds = (
    [ request_duration => '0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12'
        . ' 10.24 20.48 40.96 81.92 163.84 327.68 +Inf' ],
    [ time_to_first_token => '0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25'
        . ' 0.5 0.75 1 2.5 5 7.5 10 30 60 120 300 +Inf' ],
    [ time_per_output_token => '0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4'
        . ' 0.5 0.75 1 2.5 +Inf' ],
);

my $odd = Hybrid->new;
my $ca = $odd->ca;
my $idp = HybridOdd->new($odd, 'idp', tls => $odd->cert($ca, '127.0.0.1'));
my $nobody = $odd->closed_port;

$idp->answer(200, HybridJwt::jwks(HybridJwt->key('ES256', kid => 'k')),
    'Content-Type' => 'application/json');

my $redis = redis(name => 'redis');
my $forge = backend(name => 'forge', models => 'mistral:7b', args => {
    'load-ms' => 600, 'prompt-ms' => 20, 'token-ms' => 2, tokens => 8 });
my $cloud = backend(name => 'cloud', models => 'mistral:7b');

my %client = map { $_->{name} => $_ }
    client_block('alice', 'rate 100r/s burst=1000; concurrency 50;'
        . ' budget 9/d; egress any;', models => 'mistral:* ghost:*'),
    client_block('bob', 'rate 1r/h burst=1;', verbs => 'inference');

my $shadow = 'location = /v1/models { hybrid_access token; hybrid_shadow on;'
    . " include $root/conf/hybrid_proxy.conf; }";

sub conf {
    my ($more) = @_;
    return "hybrid_zone 4m;\n$more\n"
        . join('', map { $_->{conf} } values %client) . <<"END";
    upstream forge { zone forge 64k;
                     server 127.0.0.1:$forge->{port} max_fails=0; }
    upstream cloud { zone cloud 64k;
                     server 127.0.0.1:$cloud->{port} max_fails=0; }
    hybrid_issuer idp {
        issuer https://issuer.test; audience gateway; algorithms ES256;
        jwks https://$idp->{addr}/certs; trusted_certificate $ca->{cert};
    }
    hybrid_backend forge { pass http://forge; api ollama;
                           probe interval=200ms timeout=5s; }
    hybrid_backend cloud { pass http://cloud; egress cloud; models *;
                           api openai; price input=1 output=2; probe off; }
    hybrid_backend paid  { pass http://127.0.0.1:$nobody; egress cloud;
                           models paid:1b; api openai;
                           credential gce metadata=127.0.0.1:$nobody; }
    hybrid_route mistral:7b forge cloud;
    hybrid_route ghost:1b   forge;
    hybrid_route paid:1b    paid;
END
}

sub ask {
    my ($gw, $client, %o) = @_;
    return raw_http($gw->{port}, post($client, %o))->{status};
}

sub metrics {
    my ($gw, $args) = @_;
    my $r = http($gw, 'GET', '/hybrid/metrics' . ($args // ''));
    return $r->{status} eq '200' ? $r->{body} : '';
}

# what promtool says, and whether it is content
sub promtool {
    my ($text, @args) = @_;
    my $in = spew(dir() . '/promtool.in', $text // '');
    my $said = qx($promtool @args < $in 2>&1);
    return $? == 0 ? 'ok' : "$?: $said";
}

sub lint {
    my ($text, $what) = @_;
    SKIP: {
        skip 'there is no promtool', 1 if !$promtool;
        is(promtool($text, qw(check metrics)), 'ok', "$what: promtool");
    }
}

# all names that have a value
sub names {
    my ($text) = @_;
    return { map { ($_ => 1) } $text =~ /^(\w+)[ {]/mg };
}

# "name{labels}" => value
sub samples {
    my ($text) = @_;
    return { $text =~ /^([^#\s].*) (\S+)$/mg };
}

# the sum of all that match
sub total {
    my ($text, $name, %label) = @_;
    my $all = samples($text);
    return sum0 map { $all->{$_} } grep {
        my $line = $_;
        $line =~ /^\Q$name\E\{/
            && !grep { $line !~ /[{,]$_="\Q$label{$_}\E"/ } keys %label
    } keys %$all;
}

sub happen {
    my ($gw) = @_;
    my $alice = $client{alice};

    is(ask($gw, $alice, stream => 1), 200, 'an answer, the model is loaded');
    is(ask($gw, $alice, stream => 1), 200, 'another') for 1 .. 3;
    $forge->mock('behave', { status => 503, times => 1 });
    is(ask($gw, $alice, path => '/v1/chat/completions'), 200, 'a fallback');
    is(ask($gw, { headers => '' }), 401, 'nobody');
    is(ask($gw, { headers => $alice->{headers} =~ s/the-/no-/r }), 401,
        'a wrong secret');
    is(ask($gw, $alice, model => 'secret:1b'), 403, 'not allowed');
    is(ask($gw, $client{bob}), $_, "bob: $_") for 200, 429, 429;
    is(http($gw, 'GET', '/v1/models', $client{bob}{headers})->{status}, 200,
        'let through');
    return;
}


my $busy;    # the text of a gateway where it all has happened

subtest 'one gateway' => sub {
    my $gw = gateway(workers => 2, server => $shadow, http => conf(''));

    my $idle = metrics($gw);
    lint($idle, 'idle');
    unlike($idle, qr/_seconds_bucket/, 'no empty histogram');
    like($idle, qr/^ngx_hybrid_build_info\{version="[\d.]+",nginx="[\d.]+",
        openssl="3\.[^"]+",hiredis="\d+\.\d+\.\d+",libjwt="[^"]+",
        jansson="2\.[^"]+"\}\ 1$/mx, 'build and libraries');
    is_deeply([ sort keys %{ $gw->status->{libraries} } ],
        [ sort qw(openssl hiredis libjwt jansson) ], 'in JSON, too');

    happen($gw);
    ok(wait_until(sub { $busy = metrics($gw);
        total($busy, 'ngx_hybrid_shadowed_total', client => 'bob') >= 1 }),
        'all is counted');
    lint($busy, 'busy');

    for (@bounds) {
        my ($timer, $bounds) = @$_;
        my ($client) = $timer =~ /per_/ ? '' : 'client="alice",';
        my $labels = "${client}backend=\"forge\",model=\"mistral:7b\"";
        is(join(' ', $busy =~ /^ngx_hybrid_${timer}_seconds_bucket\{
            \Q$labels\E,scope="gateway",le="([^"]+)"\}/mgx), $bounds,
            "$timer: bounds");
    }

    is(total($busy, 'ngx_hybrid_requests_total', outcome => 'ok'), 7, 'ok');
    is(total($busy, 'ngx_hybrid_refusals_total', reason => $$_[0],
        client => $$_[1]), $$_[2], "$$_[1]: $$_[0]")
        for [ 'unauthenticated', '-', 2 ], [ 'model_denied', 'alice', 1 ],
            [ 'rate_limited', 'bob', 2 ];
    is(total($busy, 'ngx_hybrid_fallbacks_total', client => 'alice',
        backend => 'cloud', reason => 'http_503'), 1, 'the fallback, and why');
    is(total($busy, 'ngx_hybrid_shadowed_total', client => 'bob',
        reason => 'verb'), 1, 'what was let through');
    is(total($busy, 'ngx_hybrid_retries_total', client => 'alice'), 1,
        'the second try');
    is(total($busy, 'ngx_hybrid_cold_starts_total', backend => 'forge'), 1,
        'the cold start');
    is(total($busy, 'ngx_hybrid_cold_starts_total', backend => 'cloud'), 0,
        'none elsewhere');
    cmp_ok(total($busy, 'ngx_hybrid_token_usage_total', client => 'alice',
        backend => 'forge', token_type => 'output'), '>=', 4 * 8, 'tokens');
    is(total($busy, 'ngx_hybrid_load_seconds_count', backend => 'forge'),
        total($busy, 'ngx_hybrid_requests_total', backend => 'forge',
        outcome => 'ok'), 'of all clients: load');
    unlike($busy, qr/ngx_hybrid_(?:load|prompt|queue|connect)_\w+\{client/,
        'no clients where nobody looks for them');

    # what an operator would look for in JSON is here as well

    my $status = $gw->status;
    my ($backend) = grep { $_->{name} eq 'forge' } @{ $status->{backends} };
    my $path = "backend=\"forge\",path=\"$backend->{paths}[0]{name}\"";
    my $all = samples($busy);
    is($all->{"ngx_hybrid_path_up{$path}"}, 1, 'path');
    is($all->{"ngx_hybrid_path_state{$path,state=\"up\"}"}, 1, 'its state');
    is($all->{'ngx_hybrid_backend_models{backend="forge"}'},
        $backend->{models}, 'models');
    like($busy, qr/^ngx_hybrid_backend_info\{backend="forge",api="ollama",
        egress="local",version="\Q$backend->{version}\E"\}\ 1$/mx, 'version');
    is($all->{'ngx_hybrid_jwks_keys{issuer="idp"}'}, 1, 'keys');
    is($all->{ngx_hybrid_zone_series_max}, $status->{zone}{series_max},
        'zone');
    is($all->{ngx_hybrid_redis_configured}, 0, 'no Redis');

    ok($gw->stop, 'ended');
};


# what a machine tells of its time is not waited for; what it keeps to itself,
# as all do in OpenAI's dialect, is, if it shows: in a stream
subtest 'waiting for the first token' => sub {
    my $slow = backend(name => 'slow', models => 'mistral:7b', args => {
        'prompt-ms' => 200, 'token-ms' => 2, tokens => 8 });
    my $gw = gateway(http => <<"END");
        hybrid_zone 4m;
        $client{alice}{conf}
        hybrid_backend slow { pass http://127.0.0.1:$slow->{port}; probe off;
                              models *; }
        hybrid_route * slow;
END
    my $wait = 'ngx_hybrid_first_token_wait_seconds_total';

    for my $case ([ '/api/chat', 1, 0, 0.15 ],
        [ '/v1/chat/completions', 0, 0, 0.15 ],
        [ '/v1/chat/completions', 1, 0.19, 1e9 ])
    {
        my ($path, $stream, $least, $most) = @$case;
        my $before = total(metrics($gw), 'ngx_hybrid_requests_total');
        is(ask($gw, $client{alice}, path => $path, stream => $stream), 200,
            "$path, stream $stream");
        my $text;
        wait_until(sub { $text = metrics($gw);
            total($text, 'ngx_hybrid_requests_total') > $before });
        my $n = total($text, $wait, client => 'alice', backend => 'slow');
        cmp_ok($n, '>=', $least, "waited for $n s");
        cmp_ok($n, '<=', $most, 'and no longer') if !$Hybrid::VALGRIND;
        lint($text, 'a wait');
    }
};


subtest 'two gateways and Redis' => sub {
    my @gw = map { gateway(name => "all$_", workers => 2, server => $shadow,
        http => conf("hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;")) }
        1, 2;
    wait_until(sub { $_->status->{redis}{available} }) for @gw;

    is(ask($_, $client{alice}, stream => 1), 200, 'an answer') for @gw, @gw;

    my $text;
    my $count = 'ngx_hybrid_request_duration_seconds_count';
    wait_until(sub { $text = metrics($gw[0], '?scope=all');
        total($text, $count, scope => 'all') == 4 });
    is(total($text, $count, scope => 'all'), 4, 'of both');
    lint($text, 'merged');

    my $own = metrics($gw[1], '?scope=gateway');
    lint($own, 'one of them');
    is(total($own, $count, scope => 'gateway'), 2, 'its own');
    is(total($own, $count, scope => 'all'), 0, 'and no others');

    $busy .= $text;

    # Redis goes: what is less has other labels

    my %scopes = map { ($_ => 1) } $text =~ /scope="(\w+)"/g;
    is_deeply([ keys %scopes ], [ 'all' ], 'all of them say so');
    $redis->stop;
    ok(wait_until(sub { $text = metrics($gw[0], '?scope=all');
        $text =~ /^ngx_hybrid_redis_up 0$/m }), 'Redis is away');
    lint($text, 'without Redis');
    %scopes = map { ($_ => 1) } $text =~ /scope="(\w+)"/g;
    is_deeply([ keys %scopes ], [ 'gateway' ], 'other labels');

    ok($_->stop, 'ended') for @gw;
};


subtest 'many series' => sub {
    my @models = map { "m$_:1b" } 1 .. 310;
    my $rich = backend(name => 'rich', models => join(',', @models),
        args => { tokens => 2 });
    my @clients = map { client_block("c$_") } 1, 2;
    my $gw = gateway(workers => 1, http => "hybrid_zone 16m;\n"
        . join('', map { $_->{conf} } @clients) . 'hybrid_backend rich {'
        . " pass http://127.0.0.1:$rich->{port}; models *; probe off; }"
        . ' hybrid_route * rich;');
    my $count = 'ngx_hybrid_request_duration_seconds_count';
    my $of = sub {
        my ($name, $text) = @_;
        my @lines = grep { /^ngx_hybrid_${name}_seconds_count/ }
            split /\n/, $text;
        return join ' ', scalar @lines, map { my $label = $_;
            my %seen = map { /\b$label="([^"]*)"/ ? ($1 => 1) : () } @lines;
            keys %seen > 2 ? 'each' : join '+', sort keys %seen
        } qw(client model);
    };
    my $ask = sub {
        my ($total, @what) = @_;
        load(rate => 400, most => 20, count => scalar @what, request => sub {
            my ($client, $model) = @{ $what[ $_[0] ] };
            return ($gw, post($client, model => $model, stream => 1)) })
            ->results;
        my $text;
        wait_until(sub { $text = metrics($gw);
            total($text, $count) == $total });
        is(total($text, $count), $total, "$total answers");
        return $text;
    };

    my @both = map { my $model = $_; map { [ $_, $model ] } @clients }
        @models[0 .. 150];

    my $text = $ask->(300, @both[0 .. 299]);
    is($of->('request_duration', $text), '300 c1+c2 each', 'each for itself');
    is($of->('load', $text), '150  each', 'the sums of clients');

    $text = $ask->(302, @both[300, 301]);
    is($of->('request_duration', $text), '151 * each', 'no more clients');
    is($of->('load', $text), '151  each', 'but models');
    lint($text, 'many clients');

    $text = $ask->(461, map { [ $clients[0], $_ ] } @models[151 .. 309]);
    is($of->('request_duration', $text), '1 * *', 'no more models');
    is($of->('load', $text), '1  *', 'nowhere');
    is(total($text, 'ngx_hybrid_requests_total', client => 'c2',
        model => 'm7:1b'), 1, 'all are counted');
    cmp_ok(length $text, '<', 500_000, 'bounded: ' . length $text);
    lint($text, 'many models');

    ok($gw->stop, 'ended');
};


subtest 'rules and dashboard' => sub {
    my $names = names($busy);
    my %wanted;

    my $rules = slurp("$grafana/alerts.yml");
    cmp_ok(length $rules, '>', 1000, 'there are rules');

    my ($dashboard) = eval { JSON::PP->new->utf8->decode(
        slurp("$grafana/dashboard.json")) };
    ok($dashboard, 'the dashboard is JSON') or diag($@);

    my @exprs;
    my $walk; $walk = sub {
        my ($node) = @_;
        if (ref $node eq 'HASH') {
            push @exprs, $node->{expr} if exists $node->{expr};
            push @exprs, $node->{query}{query}
                if ref $node->{query} eq 'HASH' && $node->{query}{query};
            $walk->($_) for values %$node;
        } elsif (ref $node eq 'ARRAY') {
            $walk->($_) for @$node;
        }
    };
    $walk->($dashboard);
    cmp_ok(scalar @exprs, '>', 30, scalar(@exprs) . ' expressions');

    for my $text ($rules =~ s/^\s*#.*//mgr, @exprs) {
        $wanted{$_}++ for $text =~ /\b(ngx_hybrid_\w+)/g;
    }

    is_deeply([ grep { !$names->{$_} && !$not_here{$_} } sort keys %wanted ],
        [], 'all of their metrics exist');
    cmp_ok(scalar keys %wanted, '>', 30, 'many of them');

    # every alert says how bad it is and what to do

    my @alerts = split /^  - alert: /m, $rules;
    shift @alerts;
    for (@alerts) {
        my ($name) = /\A(\w+)/;
        ok(/^    for: \w+$/m && /severity: (?:critical|warning|info)\b/
            && /^      summary: ./m && /^      description: >-$/m, $name);
    }

    SKIP: {
        skip 'there is no promtool', 3 if !$promtool;
        is(promtool('', qw(check rules), "$grafana/alerts.yml"), 'ok',
            'promtool: rules');

        # Prometheus's language, but for what Grafana fills in

        my @plain = map { s/\$__(?:rate_)?(?:interval|range)/5m/gr } grep {
            !/^label_values/ } @exprs;
        my $n = 0;
        my $file = spew(dir() . '/panels.yml', JSON::PP::encode_json({
            groups => [ { name => 'panels', rules => [ map {
                { record => 'panel:' . ++$n, expr => $_ } } @plain ] } ] }));
        is(promtool('', qw(check rules), $file), 'ok', 'promtool: panels');
        is(promtool('', qw(test rules), "$grafana/alerts_test.yml"), 'ok',
            'promtool: they fire when they should');
    }
};

all_ended();
done_testing();
