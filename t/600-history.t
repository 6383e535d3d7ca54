# The last minutes: what is counted in each of them, alone and in Redis.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use JSON::PP;
use List::Util qw(max sum0);
use Test::More;

my $forge = backend(name => 'forge', models => 'mistral:7b,llama3:8b');
my %client = map { $_->{name} => $_ }
    client_block('alice'), client_block('bob'),
    client_block('worker', '', verbs => 'inference');

sub conf {
    my ($zone, $more) = @_;
    return "hybrid_zone $zone;\n" . ($more // '') . "\n"
        . join('', map { $_->{conf} } values %client)
        . "hybrid_backend forge { pass http://127.0.0.1:$forge->{port};"
        . " probe off; models *; }\nhybrid_route * forge;\n";
}

sub ask {
    my ($gw, $client, $model, $times) = @_;
    my @got = map { raw_http($gw->{port}, post($client{$client},
        path => '/api/show', body => "{\"model\":\"$model\"}"))->{status} }
        1 .. $times // 1;
    return "@got" eq join ' ', (200) x ($times // 1);
}

sub hour { return int(time / 3600) }

# of the clock's hour, and of the one before when that has just gone
sub answer {
    my ($gw, $args, $hour) = @_;
    my $answer = http($gw, 'GET',
        '/hybrid/status?history=' . ($hour // hour()) . ($args // ''));
    my $data = eval { decode_json($answer->{body}) };
    return $data if $data && $answer->{complete};
    diag("not JSON: $answer->{status} $answer->{body}");
    return;
}

my $began = hour();

sub history {
    my ($gw, $args, @hours) = @_;
    my @got;
    for my $hour (@hours ? @hours : $began .. hour()) {
        push @got, answer($gw, $args, $hour) // return;
    }
    return { %{ $got[-1] }, minutes => [ map { @{ $_->{minutes} } } @got ] };
}

# "gateway client backend model" => { "table.bucket" => count }
sub table {
    my ($history) = @_;
    my (%table, %seen);
    for my $minute (@{ $history->{minutes} }) {
        my $name = "$minute->{minute} $minute->{gateway}";
        fail("twice: $name") if $seen{$name}++;
        for my $row (@{ $minute->{series} }) {
            my ($client, $backend, $model, $cells) = @$row;
            my $sum = $table{"$minute->{gateway} $client $backend $model"}
                //= {};
            for (split / /, $cells) {
                /^(\d+\.\d+):(\d+)$/ or fail("a cell: $_");
                $sum->{$1} += $2;
            }
        }
    }
    return \%table;
}

# the same, of the status page: tables 0 to 2 by their sums
sub brief {
    my ($history) = @_;
    my $table = table($history);
    my %brief;
    for my $series (keys %$table) {
        my %n;
        while (my ($cell, $n) = each %{ $table->{$series} }) {
            my ($t, $b) = split /\./, $cell;
            if ($t == 10 && $b < 10) { $n{"c$b"} += $n }
            if ($t < 3) { $n{"t$t"} += $n }
        }
        $brief{$series} = join ' ', map { "$_=$n{$_}" } sort keys %n;
    }
    return \%brief;
}

my @outcomes = qw(ok client_error backend_error broken client_closed
    unauthorized denied limited unavailable);
my @timers = qw(request_duration time_to_first_byte connect);

sub of_status {
    my ($status) = @_;
    my %brief;
    for my $row (@{ $status->{series} }) {
        my %n = map { ("c$_" => $row->{requests}{ $outcomes[$_] }) } 0 .. 8;
        $n{c9} = $row->{fallbacks};
        $n{"t$_"} = $row->{"$timers[$_]_seconds"}{count} for 0 .. 2;
        $brief{"$status->{gateway} $row->{client} $row->{backend} "
            . $row->{model}} = join ' ', map { "$_=$n{$_}" }
            grep { $n{$_} } sort keys %n;
    }
    return \%brief;
}

# requests that were answered, of a gateway or all
sub total {
    my ($history, $id) = @_;
    my $table = table($history // return -1);
    return sum0 map { $table->{$_}{'10.0'} // 0 }
        grep { !defined $id || /^$id / } keys %$table;
}

# what Redis has
sub stored {
    my ($redis, @hours) = @_;
    my @fields = map { @{ $redis->command('HGETALL', "hybrid:history:$_") } }
        @hours ? @hours : $began .. hour();
    return { @fields };
}


subtest 'without Redis' => sub {
    my $gw = gateway(workers => 2, http => conf('512k'), server =>
        'location = /protected { hybrid_access token; hybrid_status json; }');

    is_deeply(answer($gw)->{minutes}, [], 'nothing yet');

    ok(ask($gw, 'alice', 'mistral:7b', 5), 'requests');
    ok(ask($gw, 'bob', 'llama3:8b', 3), 'and others');
    $forge->mock('behave', { status => 500, times => 1 });
    is(raw_http($gw->{port}, post($client{alice}))->{status}, 500,
        'one fails');
    is(raw_http($gw->{port}, post())->{status}, 401, 'one is nobody\'s');

    my ($history, $status);
    ok(wait_until(sub { $history = history($gw); $status = $gw->status;
        (brief($history)->{"$status->{gateway} - - -"} // '') eq 'c5=1' }, 5),
        'all are there') or diag(explain($history, of_status($status)));
    is_deeply(brief($history), of_status($status), 'what the status says')
        or diag(explain(brief($history), of_status($status)));
    is($history->{scope}, 'gateway', 'of this gateway');
    is($history->{gateway}, $status->{gateway}, 'which has this name');
    is($history->{hour}, hour(), 'the hour');
    cmp_ok(abs($history->{time} - time), '<', 30, 'and the time');
    is($history->{left_out}, 0, 'all of it');
    is(sum0(map { $_->{lost} } @{ $history->{minutes} }), 0, 'nothing lost');
    is_deeply([ grep { $_->{minute} < $began * 60
        || $_->{minute} > time / 60 } @{ $history->{minutes} } ], [],
        'minutes of now');

    # parts of it

    my $last = max map { $_->{minute} } @{ $history->{minutes} };
    is_deeply(history($gw, "&since=" . ($last + 1))->{minutes}, [],
        'since later');
    my $since = history($gw, "&since=$last")->{minutes};
    is_deeply([ map { $_->{minute} } @$since ], [ $last ], 'since the last');
    is_deeply(history($gw, '', $_)->{minutes}, [], "hour $_")
        for $began - 1, hour() + 1, 0, 71582788;

    # the same anywhere

    my $metrics = http($gw, 'GET', '/hybrid/metrics?history=' . hour());
    is($metrics->{headers}{'content-type'}, 'application/json',
        'where metrics are');
    my $path = '/protected?history=' . hour();
    is(http($gw, 'GET', $path)->{status}, 401, 'no token');
    is(http($gw, 'GET', $path, $client{worker}{headers})->{status}, 403,
        'not the verb');
    is(http($gw, 'GET', $path, $client{alice}{headers})->{status}, 200,
        'with it');
    my $head = http($gw, 'HEAD', '/hybrid/status?history=' . hour());
    is("$head->{status} $head->{body}", '200 ', 'HEAD');

    # arguments

    for my $args ('history', 'history=', 'history=x', 'history=-1',
        'history=1.5', 'history=71582789', 'history=99999999999999999999',
        'history=%31', 'history=+1', 'history=1&since=', 'history=1&since=x',
        'history=1&since=4294967296')
    {
        my $got = http($gw, 'GET', "/hybrid/status?$args");
        is($got->{status}, 400, "$args: 400");
        like($got->{body}, qr/\?history=\d+&since=\d+"\n\z/, 'says why');
    }

    for my $scope ('=gatway', '=', '', '=alle', '=GATEWAY') {
        for my $of ('status?', 'metrics?', 'status?history=' . hour() . '&') {
            my $got = http($gw, 'GET', "/hybrid/${of}scope$scope");
            is($got->{status}, 400, "${of}scope$scope: 400");
            like($got->{body}, qr/^"scope" is "all" or "gateway"$/, 'why');
        }
    }

    # it is in the zone: neither a reload nor a killed worker change it

    my $before = brief(history($gw));
    ok($gw->reload, 'reloaded');
    is_deeply(brief(history($gw)), $before, 'the same after a reload');
    my ($victim) = $gw->workers;
    kill 'KILL', $victim;
    ok(wait_until(sub { my @now = $gw->workers;
        @now == 2 && !grep { $_ == $victim } @now }), 'a worker is replaced');
    is_deeply(brief(history($gw)), $before, 'the same again');
    ok(ask($gw, 'bob', 'llama3:8b', 2), 'more');
    ok(wait_until(sub { total(history($gw)) == 10 }), 'is added');
    is_deeply(of_status($gw->status), brief(history($gw)), 'as before');
    log_is_clean($gw, qr/\[alert\].*exited on signal 9/,
        qr/authentication failures/);
    ok($gw->stop, 'ended');
};


subtest 'two gateways' => sub {
    my $redis = redis(name => 'redis');
    my @gw = map { gateway(name => "two$_", workers => 2,
        http => conf('2m', "hybrid_redis 127.0.0.1:$redis->{port}"
            . ' timeout=1s;')) } 1, 2;
    wait_until(sub { $_->status->{redis}{available} }) for @gw;
    my @id = map { $_->status->{gateway} } @gw;

    ok(ask($gw[0], 'alice', 'mistral:7b', 4), 'of one');
    ok(ask($gw[1], 'alice', 'mistral:7b', 2), 'of the other');
    ok(ask($gw[1], 'bob', 'llama3:8b', 5), 'of the other');

    for my $gw (@gw) {
        ok(wait_until(sub { total(history($gw)) == 11 }), 'all of both')
            or diag(explain(history($gw)));
        my $history = history($gw);
        is($history->{scope}, 'all', 'says so');
        is(total($history, $id[0]), 4, 'of one');
        is(total($history, $id[1]), 7, 'of the other');
    }

    is_deeply(table(history($gw[0])), table(history($gw[1])),
        'both say the same');

    my $alone = history($gw[0], '&scope=gateway');
    is($alone->{scope}, 'gateway', 'one gateway alone');
    is(total($alone), 4, 'has its own');
    is(total($alone, $id[1]), 0, 'and no others');

    # in Redis

    ok(wait_until(sub { my %of = map { /:(.*)/ ? ($1 => 1) : () }
        keys %{ stored($redis) }; 2 == keys %of }), 'stored');
    my ($key) = sort @{ $redis->command('KEYS', 'hybrid:history:*') };
    my ($hour) = $key =~ /(\d+)$/;
    my $left = $redis->command('PTTL', $key) / 1000;
    cmp_ok(abs($left - ($hour + 49) * 3600 + time), '<', 30,
        '49 hours from the beginning of the hour');

    # neither Redis nor the other one lose what a gateway has at its end

    ok(ask($gw[1], 'bob', 'mistral:7b', 3), 'three more');
    ok(wait_until(sub { total(history($gw[1], '&scope=gateway')) == 10 }),
        'are counted');
    ok($gw[1]->stop, 'and it ends');
    is(total(history($gw[0]), $id[1]), 10, 'its last ones are there');

    ok($gw[1]->start, 'it starts again');
    wait_until(sub { $gw[1]->status->{redis}{available} });
    is(total(history($gw[1])), 14, 'and has what was');
    isnt($gw[1]->status->{gateway}, $id[1], 'under another name');

    # a worker that is killed at once; another one tells Redis

    ok(ask($gw[1], 'alice', 'mistral:7b', 6), 'six more');
    ok(wait_until(sub { total(history($gw[1], '&scope=gateway')) == 6 }),
        'are counted');
    kill 'KILL', $gw[1]->workers;
    ok(wait_until(sub { total(history($gw[0])) == 20 }, 25),
        'are there without those who counted them');

    # what comes late is no later

    my $id = $gw[0]->status->{gateway};
    my ($field) = reverse sort grep { /:$id$/ } keys %{ stored($redis) };
    ($hour) = $field =~ /^(\d+)/;
    $hour = int($hour / 60);
    my $late = "1 4294967295 0000000000\nalice forge mistral:7b 10.0:9\n";
    $redis->command('HSET', "hybrid:history:$hour", $field, $late);
    ok(ask($gw[0], 'alice', 'mistral:7b'), 'another one');
    ok(wait_until(sub { total(history($gw[0]), $id) == 5 }),
        'its own is what it knows');
    ok($gw[0]->reload, 'all workers end');
    is(stored($redis, $hour)->{$field}, $late, 'but not over a later one');

    log_is_clean($_, qr/\[alert\].*exited on signal 9/) for @gw;
    ok($_->stop, 'ended') for @gw;
    ok($redis->stop('TERM'), 'Redis ended');
};


subtest 'what others write' => sub {
    my $redis = redis(name => 'odd');
    my $gw = gateway(name => 'odd', workers => 1,
        http => conf('2m', "hybrid_redis 127.0.0.1:$redis->{port}"
            . ' timeout=1s;'));
    wait_until(sub { $gw->status->{redis}{available} });

    my $hour = 400000;
    my $m = $hour * 60;
    my $id = '0123456789abcdef';
    my $head = "1 0000000001 0000000002\n";
    my $well = "${head}a b <script> 0.1:2 10.0:3\n";
    my %field = (
        "$m:$id" => $well, ($m + 59) . ":$id" => "${head}c d e 9.1:1\n",
        "$m:0000000000000000" => $head,
        ($m - 1) . ":$id" => $well, ($m + 60) . ":$id" => $well,
        "$m:$id " => $well, "$m:0123456789ABCDEF" => $well, $m => $well,
        '' => $well, "0$m:$id" => $well, "$m:0123456789abcde\"" => $well,
        ($m + 2) . ":$id" => '', ($m + 3) . ":$id" => 'x',
        ($m + 4) . ":$id" => "${head}a\" b c 0.1:2\n",
        ($m + 5) . ":$id" => "${head}a b c 0.1:2",
        ($m + 6) . ":$id" => "${head}a b c 11.1:2\n",
        ($m + 7) . ":$id" => "${head}a b c 0.1:2 \"\n",
        ($m + 8) . ":$id" => "${head}a b \\ 0.1:2\n",
        ($m + 9) . ":$id" => "${head}a b \x00 0.1:2\n",
        ($m + 10) . ":$id" => $head . "a b c 0.1:2\n" x 30000,
        ($m + 11) . ":$id" => "${head}a b \xff 0.1:2\n",
    );
    $redis->command('HSET', "hybrid:history:$hour", %field);

    my $history = answer($gw, '', $hour);
    is($history->{scope}, 'all', 'of Redis');
    is_deeply($history->{minutes}, [
        { minute => $m, gateway => '0000000000000000', lost => 2,
          series => [] },
        { minute => $m, gateway => $id, lost => 2,
          series => [ [ 'a', 'b', '<script>', '0.1:2 10.0:3' ] ] },
        { minute => $m + 59, gateway => $id, lost => 2,
          series => [ [ 'c', 'd', 'e', '9.1:1' ] ] } ], 'only what is well')
        or diag(explain($history));
    is_deeply(answer($gw, "&since=" . ($m + 1), $hour)->{minutes},
        [ $history->{minutes}[2] ], 'since');

    # many minutes, of many gateways, some of them large

    $hour++;
    $m = $hour * 60;
    my %n;
    for my $g (1 .. 5) {
        for my $i (0 .. 59) {
            my $cells = join ' ', map { "0.$_:$g" } 0 .. ($i % 20 ? 9 : 400);
            my $rows = join '', map { "c$_ b m $cells\n" } 1 .. ($i == 40
                ? 45 : 2);
            $n{$g} += $g * (() = $rows =~ /:/g);
            $redis->command('HSET', "hybrid:history:$hour", ($m + $i)
                . sprintf(':%016x', $g), "$head$rows");
        }
    }
    $history = answer($gw, '', $hour);
    is(scalar @{ $history->{minutes} }, 300, 'all minutes');
    my $table = table($history);
    for my $g (1 .. 5) {
        my $id = sprintf '%016x', $g;
        is(sum0(map { values %{ $table->{$_} } } grep { /^$id / }
            keys %$table), $n{$g}, "of gateway $g");
    }

    # a key that is something else

    $redis->command('SET', "hybrid:history:$_", 'x') for hour(), hour() + 1;
    ok(ask($gw, 'alice', 'mistral:7b'), 'a request');
    is(answer($gw)->{scope}, 'gateway', 'not an hour: our own');
    ok(wait_until(sub { slurp($gw->{log}) =~ /not take the history/ }),
        'which is said');
    $redis->command('DEL', "hybrid:history:$_") for hour(), hour() + 1;
    ok(wait_until(sub { total(answer($gw)) == 1
        && answer($gw)->{scope} eq 'all' }), 'and goes on');

    log_is_clean($gw, qr/redis does not take the history: "WRONGTYPE/);
    ok($gw->stop, 'ended');
    ok($redis->stop('TERM'), 'Redis ended');
};


subtest 'clients that leave, and Redis that is late' => sub {
    my $redis = redis(name => 'late');
    my $gw = gateway(name => 'late', workers => 1, http => conf('2m',
        "hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;"));
    wait_until(sub { $gw->status->{redis}{available} });
    ok(ask($gw, 'alice', 'mistral:7b'), 'a request');
    ok(wait_until(sub { keys %{ stored($redis) } }), 'is stored');
    my @workers = $gw->workers;
    my $text = 'GET /hybrid/status?history=' . hour()
        . " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    $redis->freeze;
    load(rate => 500, count => 40, timeout => 0.2,
        request => sub { return ($gw, $text) })->results;
    $redis->thaw;
    ok(wait_until(sub { my $history = history($gw);
        $history->{scope} eq 'all' && total($history) == 1 }), 'well again');

    $redis->freeze;
    my $rows = load(rate => 500, count => 40,
        request => sub { return ($gw, $text) })->results;
    $redis->thaw;
    is_deeply(numbers($rows), { 200 => 40 }, 'all are answered');
    cmp_ok((sort { $b <=> $a } map { $_->{time} } @$rows)[0], '<', 3,
        'in time');
    ok(wait_until(sub { history($gw)->{scope} eq 'all' }), 'well again');

    # at any moment of it

    load(rate => 1000, count => 200, timeout => 0.002, most => 100,
        request => sub { return ($gw, $text) })->results;
    is(total(history($gw)), 1, 'and again');
    is_deeply([ $gw->workers ], \@workers, 'the same worker');

    log_is_clean($gw, qr/\[error\].*redis "/);
    ok($gw->stop, 'ended');
    ok($redis->stop('TERM'), 'Redis ended');
};


# a wall clock that the test moves
sub clock {
    my $file = spew(dir() . '/clock', pack 'q', 0);
    my $source = spew(dir() . '/clock.c', <<'END');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>

static volatile long long  *offset;

int
gettimeofday(struct timeval *tv, void *tz)
{
    static int  (*real)(struct timeval *, void *);
    const char   *file = getenv("TEST_CLOCK");

    if (!real) {
        real = (int (*)(struct timeval *, void *)) dlsym(RTLD_NEXT,
                                                         "gettimeofday");
    }

    if (!offset && file) {
        offset = mmap(NULL, 8, PROT_READ, MAP_SHARED, open(file, O_RDONLY),
                      0);
    }

    real(tv, tz);

    if (offset && offset != MAP_FAILED) {
        tv->tv_sec += *offset;
    }

    return 0;
}
END
    my $library = dir() . '/clock.so';
    my $cc = $ENV{CC} // 'cc';
    system("$cc -shared -fPIC -o $library $source -ldl 2>$source.log") == 0
        or return;
    open my $out, '+<', $file or die "$file: $!";
    return ($library, $file, sub {
        my ($to) = @_;
        sysseek $out, 0, 0;
        syswrite $out, pack 'q', $to - time;
    });
}

subtest 'an hour without Redis' => sub {
    my ($library, $file, $set) = clock()
        or plan(skip_all => 'no compiler');
    my $redis = redis(name => 'away');

    # 61 minutes over the end of an hour, and not in the last second of one

    my $hour = hour() + 2;
    my $first = $hour * 60 + 30;
    $set->($first * 60 + 5);

    my $gw = do {
        local $ENV{LD_PRELOAD} = $library;
        local $ENV{TEST_CLOCK} = $file;
        local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '')
            . ':verify_asan_link_order=0';
        gateway(name => 'away', workers => 2, main => 'env TEST_CLOCK;',
            http => conf('2m', "hybrid_redis 127.0.0.1:$redis->{port}"
                . ' timeout=1s;'));
    };
    wait_until(sub { $gw->status->{redis}{available} });
    my $shown = sub { return history($gw, '', $hour, $hour + 1) };
    my $by_minute = sub {
        my ($history) = @_;
        my %n;
        for my $minute (@{ $history->{minutes} }) {
            $n{ $minute->{minute} - $first }
                = total({ minutes => [ $minute ] });
        }
        return \%n;
    };

    ok(ask($gw, 'alice', 'mistral:7b'), 'the first minute');
    ok(wait_until(sub { keys %{ stored($redis, $hour) } }), 'is stored');
    ok($redis->stop('KILL'), 'Redis is killed');

    my %n = (0 => 1);
    for my $i (1 .. 61) {
        $set->(($first + $i) * 60 + 5);
        $n{$i} = 1 + $i % 3;
        fail("minute $i") if !ask($gw, 'alice', 'mistral:7b', $n{$i});

        # a request is counted after its answer is there
        wait_until(sub { total(history($gw, '&scope=gateway&since='
            . ($first + $i), $hour, $hour + 1)) == $n{$i} }, 5)
            or fail("minute $i is counted");
    }

    my $history = $shown->();
    is($history->{scope}, 'gateway', 'Redis is away');
    is_deeply($by_minute->($history), \%n, 'each minute, in the zone')
        or diag(explain($by_minute->($history)));

    # back, and empty

    ok($redis->start, 'Redis is there again');
    my $all;
    ok(wait_until(sub { $all = { %{ stored($redis, $hour) },
        %{ stored($redis, $hour + 1) } }; keys %$all >= 61 }, 60),
        'it gets what it has missed') or diag(scalar keys %$all);

    my %stored;
    for (keys %$all) {
        my ($count) = $all->{$_} =~ / 10\.0:(\d+)/;
        $stored{ ($_ =~ s/:.*//r) - $first } = $count;
    }
    delete @$_{0} for \%n, \%stored;    # perhaps it was told that
    is_deeply(\%stored, \%n, 'each minute')
        or diag(explain(\%stored));
    ok(wait_until(sub { $shown->()->{scope} eq 'all' }), 'and tells it');

    # the clock goes back, and on again

    $set->(($first + 20) * 60 + 5);
    ok(ask($gw, 'alice', 'mistral:7b', 10), 'forty minutes back');
    ok(wait_until(sub { $by_minute->($shown->())->{20} == $n{20} + 10 }),
        'is counted there');
    $set->(($first + 61) * 60 + 5);
    ok(ask($gw, 'alice', 'mistral:7b', 10), 'and the present');
    $n{0} = 1;
    $n{$_} += 10 for 20, 61;
    ok(wait_until(sub { $by_minute->($shown->())->{61} == $n{61} }),
        'is where it was');
    is_deeply($by_minute->($shown->()), \%n, 'and all the others');

    log_is_clean($gw, qr/\[error\].*redis "/);
    ok($gw->stop, 'ended');
    my ($field) = grep { /^@{[ $first + 20 ]}:/ } keys %{ stored($redis,
        $hour) };
    like(stored($redis, $hour)->{$field}, qr/ 10\.0:13\n/,
        'the last word is stored');
    ok($redis->stop('TERM'), 'Redis ended');
};

all_ended();
done_testing();
