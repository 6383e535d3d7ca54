# A client's rate in shared memory: GCRA, one bucket for all workers of a
# gateway, kept over a reload.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $forge = backend(name => 'forge');

# one request a minute: no more comes while the test runs
my %client = map { $_->{name} => $_ }
    client_block('burst20', 'rate 1r/m burst=20;'),
    client_block('burst7', 'rate 1r/m burst=7;'),
    client_block('single', 'rate 1r/m;'),
    client_block('hourly', 'rate 2r/h burst=1;'),
    client_block('flow', 'rate 40r/s burst=8;'),
    client_block('policy', 'rate 1r/h burst=3;', models => 'mistral:*'),
    client_block('watch', 'rate 1r/h burst=3;'),
    client_block('free', '');

my $gw = gateway(workers => 4, listen => 'reuseport',
    server => "location = /status { hybrid_access token;"
        . " hybrid_status json; }\n",
    http => "hybrid_zone 2m;\n" . join('', map { $_->{conf} } values %client)
        . "upstream forge { zone forge 64k; server 127.0.0.1:$forge->{port};"
        . " keepalive 8; }\n"
        . "hybrid_backend forge { pass http://forge; models *; }\n"
        . "hybrid_route * forge;\n");

sub at_once {
    my ($name, $n, %o) = @_;
    return load(rate => 1000, count => $n, request => sub {
        return ($gw, post($client{$name}, %o), $name) })->results;
}


subtest 'a burst is admitted exactly, by all workers together' => sub {
    my $rows = at_once('burst20', 80);
    is_deeply(numbers($rows), { 200 => 20, 429 => 60 }, '20 of 80');

    my %workers = map { $_->{worker} => 1 } @$rows;
    cmp_ok(scalar keys %workers, '>=', 2, 'that several workers have seen');

    is($forge->mock('stats')->{requests}, 20, 'the backend saw only those');
};

subtest 'clients have buckets of their own' => sub {
    my $rows = load(rate => 1000, count => 60, request => sub {
        my $name = $_[0] % 3 ? 'burst7' : 'single';
        return ($gw, post($client{$name}), $name) })->results;

    is_deeply(numbers([ grep { $_->{tag} eq 'burst7' } @$rows ]),
        { 200 => 7, 429 => 33 }, 'one');
    is_deeply(numbers([ grep { $_->{tag} eq 'single' } @$rows ]),
        { 200 => 1, 429 => 19 }, 'another, without a burst');
    is_deeply(numbers(at_once('free', 30)), { 200 => 30 }, 'and no limit');
};

subtest 'the refusal' => sub {
    my %wait = (single => [ 30, 60 ], hourly => [ 1700, 1800 ]);

    raw_http($gw->{port}, post($client{hourly}));

    for my $name (sort keys %wait) {
        my $answer = raw_http($gw->{port}, post($client{$name}));
        is($answer->{status}, 429, "$name: status");
        is($answer->{headers}{'x-hybrid-reason'}, 'rate_limited', 'reason');
        my $retry = $answer->{headers}{'retry-after'};
        like($retry, qr/^\d+$/, 'Retry-After in seconds');
        cmp_ok($retry, '>=', $wait{$name}[0], "$retry, not too soon");
        cmp_ok($retry, '<=', $wait{$name}[1], 'not too late');
        is($answer->{headers}{'x-hybrid-limits'}, undef, 'not degraded');
    }

    my %shape = (
        '/api/chat' => { error => 'TEXT' },
        '/v1/chat/completions' => { error => { message => 'TEXT',
            type => 'rate_limit_error', param => undef,
            code => 'rate_limited' } },
        '/v1/messages' => { type => 'error', error => { message => 'TEXT',
            type => 'rate_limit_error' } },
    );

    for my $path (sort keys %shape) {
        my $answer = raw_http($gw->{port},
            post($client{single}, path => $path));
        is($answer->{status}, 429, "$path: status");
        is($answer->{headers}{'content-type'}, 'application/json', 'type');
        my $got = eval { JSON::PP::decode_json($answer->{body}) } || {};
        my $error = $got->{error} // '';
        if (ref $error) { like($error->{message}, qr/too many/, 'message');
                          $error->{message} = 'TEXT' }
        else { like($error, qr/too many/, 'message'); $got->{error} = 'TEXT' }
        is_deeply($got, $shape{$path}, 'in its dialect');
    }

    # the limit is decided before a byte of the body is there

    my $answer = raw_http($gw->{port}, "POST /api/chat HTTP/1.1\r\n"
        . "Host: x\r\n$client{single}{headers}Content-Length: 1000000\r\n"
        . "Expect: 100-continue\r\n\r\n");
    is($answer->{status}, 429, 'before the body is read');
};

subtest 'who is not known uses nothing up' => sub {
    my $wrong = $client{policy}{headers} =~ s/the-secret/a-guess/r;
    my $bad = post({ headers => $wrong });
    is(raw_http($gw->{port}, $bad)->{status}, 401, 'refused') for 1 .. 5;
    is_deeply(numbers(at_once('policy', 5)), { 200 => 3, 429 => 2 },
        'the burst is still there');
};

subtest 'a status page uses nothing up' => sub {
    my $look = sub { http($gw, 'GET', '/status', $client{watch}{headers}) };
    is(http($gw, 'GET', '/status')->{status}, 401, 'not for everybody');
    is($look->()->{status}, 200, 'look') for 1 .. 5;
    is_deeply(numbers(at_once('watch', 5)), { 200 => 3, 429 => 2 },
        'the burst is still there');
    is($look->()->{status}, 200, 'nor does it need anything');
};

subtest 'kept over a reload' => sub {
    my $before = $gw->status;
    ok($gw->reload, 'reloaded');

    is_deeply(numbers(at_once('burst20', 20)), { 429 => 20 },
        'no new burst');
    is_deeply(numbers(at_once('single', 5)), { 429 => 5 }, 'nor there');

    my $sum = sub {
        my ($status) = @_;
        my $n = 0;
        $n += $_->{requests}{limited}
            for grep { $_->{client} eq 'burst20' } @{ $status->{series} };
        return $n;
    };

    is($sum->($before), 60, 'counted before');
    is($sum->($gw->status), 80, 'and on from there');

    # another limit for the same client

    my $http = $gw->{http};
    $gw->configure(
        http => $http =~ s/rate 1r\/m burst=20/rate 1r\/m burst=25/r);
    ok($gw->reload, 'reloaded with a larger burst');
    is_deeply(numbers(at_once('burst20', 20)), { 200 => 5, 429 => 15 },
        'what has been used stays used');
    $gw->configure(http => $http);
    ok($gw->reload, 'and back');
    is_deeply(numbers(at_once('burst20', 5)), { 429 => 5 }, 'nothing left');
};

subtest 'a flow at four times the rate' => sub {
    my $from = now();
    my $rows = load(rate => 160, seconds => 5, request => sub {
        return ($gw, post($client{flow}), 'flow') })->results;
    my $time = now() - $from;

    my %n = %{ numbers($rows) };
    is_deeply([ sort keys %n ], [ 200, 429 ], 'nothing but 200 and 429');

    my $most = 8 + 40 * $time;
    cmp_ok($n{200}, '<=', $most, sprintf 'at most %.1f: %d', $most, $n{200});

    # the load ends before its answers do
    my $least = 8 + 40 * ($rows->[-1]{start} - $rows->[0]{start});
    cmp_ok($n{200}, '>=', 0.95 * $least, sprintf 'at least 95 %% of %.1f',
        $least);

    my @retry = grep { $_->{status} == 429 && $_->{retry} != 1 } @$rows;
    is(scalar @retry, 0, 'Retry-After is rounded up to a second');
};

log_is_clean($gw);
all_ended();
done_testing();
