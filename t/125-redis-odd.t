# Redis that is there, but answers late, or in part, or with an error, or with
# what is no answer.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use MockRedis;
use Test::More;
use Time::HiRes 'sleep';

my $mock = MockRedis->new;

my %client = map { $_->{name} => $_ }
    client_block('crowd', 'rate 1000r/s burst=1000;'),
    client_block('open', 'rate 1r/h loss=open;');

sub conf {
    my ($redis, $timeout, @clients) = @_;
    return "hybrid_zone 2m;\nhybrid_redis $redis->{addr} timeout=$timeout;\n"
        . "log_format waited '\$hybrid_client \$hybrid_queue_time';\n"
        . join('', map { $_->{conf} } @clients)
        . "hybrid_backend none { pass http://127.0.0.1:9; models a;"
        . " probe off; }\n"
        . "hybrid_route * none;\n";
}

sub started {
    my ($redis, $timeout, $workers, @clients) = @_;
    return gateway(workers => $workers, server => 'access_log waited waited;',
        http => conf($redis, $timeout, @clients));
}

# a list of models needs no backend, but a credit as all requests do
sub ask {
    my ($client) = @_;
    return "GET /api/tags HTTP/1.1\r\nHost: x\r\n$client->{headers}"
        . "Connection: close\r\n\r\n";
}

sub flow {
    my ($rate, $count, $gw, @clients) = @_;
    return load(rate => $rate, count => $count, request => sub {
        return ($gw, ask($clients[ $_[0] % @clients ])) });
}

sub one { my ($gw, $client) = @_; return raw_http($gw->{port}, ask($client)) }

sub limits { return one(@_)->{headers}{'x-hybrid-limits'} }

sub marks {
    my %n;
    $n{ $_->{limits} || 'none' }++ for @{ $_[0] };
    return \%n;
}

# how long each request of a client has waited for Redis
sub waits {
    my ($gw, $client) = @_;
    my @times = slurp("$gw->{home}/waited") =~ /^\Q$client->{name}\E (.*)/mg;
    return sort { $a <=> $b } @times;
}

sub lines { return scalar(() = slurp($_[0]{log}) =~ /redis "/g) }

# together: an answer that is awaited keeps a worker for the timeout
sub ended_well {
    my (@gw) = @_;
    log_is_clean($_, qr/\[error\].*redis (?:"|can't tell|does not take)/,
        qr/\[warn\].*(?:revocations are known|revocations can't be read)/,
        qr/\[warn\].*levers can't be read/)
        for @gw;
    kill 'QUIT', map { $_->{pid} } @gw;
    is(scalar(grep { !$_->stop } @gw), 0, 'ended');
    return;
}


my %late = (
    'greets, but never answers' => [ 'never' ],
    'greets, but answers too late' => [ "*2\r\n:1\r\n:0\r\n", 250 ],
);

for my $what (sort keys %late) {
    my ($answer, $ms) = @{ $late{$what} };

    subtest $what => sub {
        $mock->well;
        $mock->set($_ => $answer, $ms) for qw(EVAL EVALSHA);
        my $gw = started($mock, '100ms', 2, @client{qw(crowd open)});

        # the back-off has grown by then

        my $rows = flow(100, 150, $gw, $client{crowd})->results;
        is_deeply(numbers($rows), { 200 => 150 }, 'at first');
        my @before = waits($gw, $client{crowd});
        cmp_ok($before[-1], '>=', 0.05, "one waited for $before[-1] s");
        my $from = $mock->count('EVALSHA');

        $rows = flow(100, 300, $gw, $client{crowd}, $client{open})->results;
        is_deeply(numbers($rows), { 200 => 300 }, 'then');
        is_deeply(marks($rows), { local => 150, open => 150 },
            'all decided as "loss=" says');

        my $late = grep { $_ > 0.01 } map { waits($gw, $_) } values %client;
        $late -= grep { $_ > 0.01 } @before;
        cmp_ok($late, '<=', 0.4 * 300, "$late of 300 waited");
        my $asked = $mock->count('EVALSHA') - $from;
        cmp_ok($asked, '<=', 0.2 * 300, "$asked questions");

        my $lines = lines($gw);
        cmp_ok($lines, '>=', 1, 'the log tells');
        cmp_ok($lines, '<=', 6, "in $lines lines");
        like(slurp($gw->{log}), qr/is away \(no answer in time\)/, 'why');

        # once it answers it is used

        $mock->well;
        ok(wait_until(sub { !limits($gw, $client{crowd}) }), 'back');
        ended_well($gw);
    };
}


subtest 'no script, and both answers are slow' => sub {
    my @many = map { client_block("slow$_", 'rate 1r/s;') } 1 .. 12;
    $mock->well;
    my $gw = started($mock, '200ms', 1, @many);
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis is there');

    $mock->set(EVALSHA => "-NOSCRIPT No matching script.\r\n", 160);
    $mock->set(EVAL => "*2\r\n:0\r\n:1000\r\n", 160);

    for my $n (1 .. 12) {
        one($gw, $many[$n - 1]);
        sleep 0.2;
    }

    my @times = sort { $a <=> $b } map { waits($gw, $_) } @many;
    note("@times");
    is(scalar @times, 12, 'all are in the log');
    cmp_ok($times[6], '>=', 0.1, "they did wait: $times[6] s");
    cmp_ok($times[6], '<=', 1.4 * 0.2, 'but not for two timeouts');
    cmp_ok($mock->count('EVAL'), '>=', 1, 'the text was sent');
    ended_well($gw);
};


subtest 'errors of a Redis that can not serve' => sub {
    my %error = (
        LOADING => 'Redis is loading the dataset in memory',
        OOM => "command not allowed when used memory > 'maxmemory'.",
        MISCONF => 'Redis is configured to save RDB snapshots',
        BUSY => 'Redis is busy running a script.',
        MOVED => '3999 127.0.0.1:6381',
        ASK => '3999 127.0.0.1:6381',
        TRYAGAIN => 'Multiple keys request during rehashing of slot',
        MASTERDOWN => 'Link with MASTER is down',
        CLUSTERDOWN => 'The cluster is down',
        NOREPLICAS => 'Not enough good replicas to write.',
        READONLY => "You can't write against a read only replica.",
        NOAUTH => 'Authentication required.',
        NOPERM => 'this user has no permissions to run the command',
    );
    my $client = client_block('limited', 'rate 1r/m burst=5;');
    my @gw;

    for my $code (sort keys %error) {
        $mock->well;
        $mock->set(EVALSHA => "-$code $error{$code}\r\n");
        push @gw, my $gw = started($mock, '2s', 1, $client);
        my $rows = flow(300, 15, $gw, $client)->results;

        is_deeply(numbers($rows), { 200 => 5, 429 => 10 }, $code);
        is_deeply(marks($rows), { local => 15 }, 'decided here');
        my $log = slurp($gw->{log});
        like($log, qr/can't serve: "$code \Q$error{$code}\E"/, 'said why');
        like($log, qr/is away \(it refuses\)/, 'and what comes of it');
        cmp_ok(lines($gw), '<=', 3, lines($gw) . ' lines');
    }
    ended_well(@gw);
};


subtest 'answers of another shape' => sub {
    my %shape = (
        'an integer' => ":1\r\n",
        'a string' => "\$2\r\n10\r\n",
        'a status' => "+OK\r\n",
        'nothing' => "\$-1\r\n",
        'no array' => "*-1\r\n",
        'an empty array' => "*0\r\n",
        'an array of one' => "*1\r\n:1\r\n",
        'an array of three' => "*3\r\n:1\r\n:0\r\n:0\r\n",
        'an array of strings' => "*2\r\n\$1\r\n1\r\n\$1\r\n0\r\n",
        'an integer and a string' => "*2\r\n:0\r\n\$1\r\n0\r\n",
        'a string and an integer' => "*2\r\n\$1\r\n1\r\n:0\r\n",
        'an array of arrays' => "*2\r\n*1\r\n:1\r\n*1\r\n:0\r\n",
        'an array of nothing' => "*2\r\n\$-1\r\n\$-1\r\n",
        'a negative credit' => "*2\r\n:-1\r\n:0\r\n",
        'a credit of 2^63' => "*2\r\n:-9223372036854775808\r\n:0\r\n",
        'more than was asked for' => "*2\r\n:6\r\n:0\r\n",
        'an error of the script' => "-ERR user_script:5: nan\r\n",
    );
    my @names = sort keys %shape;
    my @odd = map { client_block("odd$_", 'rate 100r/s burst=5;') }
        0 .. $#names;
    my $well = client_block('well', '');
    $mock->well;
    my $gw = started($mock, '2s', 1, @odd, $well);
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis is there');

    for my $n (0 .. $#names) {
        $mock->set(EVALSHA => $shape{ $names[$n] });
        my $before = $mock->count('EVALSHA');
        my @got = map { one($gw, $odd[$n]) } 1 .. 3;

        is_deeply([ map { "$_->{status} "
            . ($_->{headers}{'x-hybrid-limits'} // 'none') } @got ],
            [ ('200 local') x 3 ], $names[$n]);
        cmp_ok($mock->count('EVALSHA') - $before, '>=', 3, 'all have asked');
    }

    my $log = slurp($gw->{log});
    my @said = $log =~ /can't tell the limit of client "odd(\d+)"/g;
    is_deeply([ sort { $a <=> $b } @said ], [ 0 .. $#names ], 'each is told');

    $mock->well;
    is(limits($gw, $_), undef, "$_->{name}: Redis again") for @odd;

    $mock->set(EVALSHA => ":1\r\n");
    ok(wait_until(sub { limits($gw, $odd[0]) }), 'and odd again');
    is(scalar(() = slurp($gw->{log}) =~ /of client "odd0"/g), 2, 'told again');
    ended_well($gw);
};


subtest 'more credits than the limit has' => sub {
    my @many = map { client_block("many$_", 'rate 1r/m burst=10;') } 0, 1;
    $mock->well;
    my $gw = started($mock, '2s', 2, @many);
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis is there');

    # one at a time, and to those that have waited together

    for my $n (0, 1) {
        $mock->set(EVALSHA => 'usual', 150 * $n);
        my $rows = flow(1e6, 60, $gw, $many[$n])->results;
        is_deeply(numbers($rows), { 200 => 10, 429 => 50 }, 'it holds');
        is_deeply(marks($rows), { none => 60 }, 'with Redis');
    }
    ended_well($gw);
};


subtest 'a greeting that is none' => sub {
    my %greeting = (
        'an integer' => [ ":1\r\n", qr/unexpected answer/ ],
        'an error' => [ "-ERR unknown command\r\n", qr/unexpected answer/ ],
        'not Redis' => [ "HTTP/1.1 400 Bad Request\r\n\r\n", qr/Protocol/ ],
        'the end' => [ 'close', qr/Server closed|reset by peer/ ],
    );
    my $client = client_block('limited', 'rate 1r/m burst=5;');
    my @gw;

    for my $what (sort keys %greeting) {
        my ($answer, $why) = @{ $greeting{$what} };
        $mock->well;
        $mock->set(PING => $answer);
        push @gw, my $gw = started($mock, '2s', 1, $client);
        ok(wait_until(sub { slurp($gw->{log}) =~ /is away/ }), $what);
        like(slurp($gw->{log}), qr/is away \(.*$why/, 'the log says why');

        my $rows = flow(300, 15, $gw, $client)->results;
        is_deeply(numbers($rows), { 200 => 5, 429 => 10 }, 'limits hold');
        is_deeply(marks($rows), { local => 15 }, 'here');
        cmp_ok(lines($gw), '<=', 2, lines($gw) . ' lines');
    }
    ended_well(@gw);
};


subtest 'the back-off grows' => sub {
    my @mock = ($mock, MockRedis->new);
    $mock->well;
    $mock->set(accept => 'close');
    $mock[1]->set($_ => 'close') for qw(EVAL EVALSHA);

    my @what = ('ends at once', 'ends when it is asked');
    my @gw = map { started($_, '2s', 1, $client{crowd}) } @mock;
    my $from = now();
    my @loads = map { flow(100, 350, $_, $client{crowd}) } @gw;
    is_deeply(numbers($_->results), { 200 => 350 }, 'nobody is refused')
        for @loads;

    # some 9 in 3.5 s; with the first pause for ever it would be 90

    my $most = 20 + 2 * (now() - $from - 3.5);
    for my $n (0, 1) {
        my $times = $mock[$n]->count('accept');
        cmp_ok($times, '>=', 3, "$what[$n]: it is tried again");
        cmp_ok($times, '<=', $most, "$times times");
        cmp_ok(lines($gw[$n]), '<=', 2, lines($gw[$n]) . ' lines');
    }

    # and is over when a command was answered

    $mock[1]->well;
    ok(wait_until(sub { !limits($gw[1], $client{crowd}) }), 'back');
    like(slurp($gw[1]{log}), qr/is back/, 'and said so');
    ended_well(@gw);
};

all_ended();
done_testing();
