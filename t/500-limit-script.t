# The script that settles limits, run by a real Redis: its arguments are
# chosen, and so is the time, which is put in place of TIME.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Digest::SHA 'sha1_hex';
use IO::Socket::INET;
use Test::More;
use Time::Local 'timegm';

my $redis = redis(name => 'redis');
my $root = $ENV{HYBRID_ROOT} || '.';
my ($socket, $sha, $real);

sub script {
    my $c = slurp("$root/ngx_hybrid_module/limit/ngx_http_hybrid_script.c");
    my ($text) = $c =~ /lease_script = \{\s*ngx_string\((.*?)\),\s*\{ 0 \}/s
        or die 'no script';

    return join '', map { s/\\n/\n/gr } $text =~ /"((?:[^"\\]|\\.)*)"/g;
}

sub commands {
    my @reply;

    while (my @some = splice @_, 0, 200) {
        print $socket map { my @words = @$_; '*' . @words . "\r\n"
            . join '', map { '$' . length($_) . "\r\n$_\r\n" } @words } @some;
        $socket->flush;
        push @reply, map { HybridRedis::Redis::reply($socket) } @some;
    }

    return @reply;
}

sub command { return (commands([@_]))[0] }

# at a time of our own, usec; the reply without "reset"
my ($key, $now) = ('{c}:limits', 1_700_000_000_000_000);

sub line {
    my ($gateway, @operations) = @_;
    return [ 'EVALSHA', $sha, 1, $key, $gateway, 0,
             (map { my @op = @$_; push @op, 0 while @op < 10; @op }
              @operations),
             int($now / 1_000_000), sprintf '%06d', $now % 1_000_000 ];
}

sub run {
    my $reply = command(@{ line(@_) });
    return ref $reply ? join ' ', @$reply[1 .. $#$reply] : $reply;
}

sub get { return command('HGET', $key, $_[0]) // 'none' }
sub fresh { command('DEL', $key) }

$socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
    PeerPort => $redis->{port}) or die "redis: $!";

{
    my $text = script();
    my $timed = $text;
    $timed =~ s/redis\.call\('TIME'\)/{table.remove(ARGV, #ARGV - 1),
        table.remove(ARGV)}/ or die 'no TIME';
    $sha = command('SCRIPT', 'LOAD', $timed);
    $real = command('SCRIPT', 'LOAD', $text);
    like $sha, qr/^[0-9a-f]{40}$/, 'the script compiles';
}


# a unit is a msec, a burst 100 of them
sub bucket {
    my (%o) = @_;
    return [ 'g', $o{field} // 'tokens', 1_000_000, 100_000, 200_000,
             map { $o{$_} // 0 } qw(charge want least ahead) ];
}

sub tat { my $tat = get($_[0] // 'tokens');
          return $tat eq 'none' ? $tat : $tat - $now }

subtest 'a bucket' => sub {
    fresh();
    is run('a', bucket(want => 0, least => 1)), '0 0 100 0', 'a look';
    is get('tokens'), 'none', 'that leaves nothing';
    is run('a', bucket(want => 30, least => 1)), '30 0 70 0', 'some';
    is run('b', bucket(want => 100, least => 1)), '70 1000 0 0', 'the rest';
    is tat(), 100_000, 'as much as there is';
    is run('a', bucket(want => 5, least => 3)), '0 3000 0 0', 'none';

    $now += 2_999;
    is run('a', bucket(want => 5, least => 3)), '0 1 2 0', 'too few';
    $now += 1;
    is run('a', bucket(want => 5, least => 3)), '3 3000 0 0', 'just enough';
    is tat(), 100_000;

    is run('a', bucket(charge => -10)), '0 0 10 0', 'given back';
    $now += 1_000_000;
    is run('a', bucket(charge => -50, want => 200, least => 1)),
        '100 1000 0 0', 'never more than a burst';
    is run('a', bucket(charge => -10, want => 10, least => 1)), '10 0 0 0',
        'given back and taken at once';
};

subtest 'debts of a bucket' => sub {
    fresh();
    is run('a', bucket(charge => 150)), '0 0 0 0', 'in debt';
    is tat(), 150_000;
    is run('a', bucket(want => 1, least => 1)), '0 51000 0 0', 'that delays';
    is run('a', bucket(charge => 500)), '0 0 0 0', 'more';
    is tat(), 200_000, 'but no deeper than two bursts';
    is run('a', bucket(charge => -150)), '0 0 50 0', 'and out of it';
};

subtest 'the own account of a gateway' => sub {
    fresh();
    is run('a', bucket(want => 10, least => 1, ahead => 40_000)), '10 0 50 0',
        'data that was lost';
    is tat(), 50_000;
    is run('b', bucket(ahead => 20_000)), '0 0 50 0', 'another one';
    is tat(), 50_000, 'that knows less';

    # a debt is in the own account already
    fresh();
    run('a', bucket(want => 10, least => 1));
    is run('a', bucket(charge => 30, ahead => 40_000)), '0 0 60 0', 'a debt';
    is tat(), 40_000, 'is charged once';
    is run('a', bucket(charge => -30, ahead => 10_000)), '0 0 90 0',
        'and so is what is given back';
};

subtest 'small and large units' => sub {
    fresh();

    # a thousand million tokens a minute, and one a day with a burst of 50 y
    my @small = ('g', 'tokens', 60, 60_000_000, 120_000_000);
    is run('a', [ @small, 0, 7, 7, 0 ]), '7 0 999999993 0', 'rounded up';
    is run('a', [ @small, -7, 0, 1, 0 ]), '0 0 999999983 0', 'and down';

    my $day = 86_400_000_000;
    my @large = ('g', 'rate', $day * 1000, 18_000 * $day, 18_000 * $day);
    is run('a', [ @large, 0, 18_000, 1, 0 ]), '18000 0 0 0', 'all at once';
    is run('a', [ @large, 0, 1, 1, 0 ]), "0 $day 0 0", 'to the usec';
    is tat('rate'), 18_000 * $day;
    $now += $day - 1;
    is run('a', [ @large, 0, 1, 1, 0 ]), '0 1 0 0';
    $now += 1;
    is run('a', [ @large, 0, 1, 1, 0 ]), "1 0 0 0";
};


sub budget {
    my (%o) = @_;
    return [ 'b', 'budget', $o{kind} // 'day', $o{quota} // 1000,
             map { $o{$_} // 0 } qw(period charge want least own debt) ];
}

# noon of a day; the day, since 1970
sub noon {
    my ($year, $month, $day) = @_;
    my $time = timegm(0, 0, 12, $day, $month - 1, $year);
    $now = $time * 1_000_000;
    return int($time / 86400);
}

my $half = 43_200_000_000;

subtest 'a budget' => sub {
    fresh();
    my $day = noon(2027, 3, 4);

    is run('a', budget()), "0 0 1000 $day", 'a look';
    is get('budget'), 'none', 'that leaves nothing';
    is run('a', budget(want => 600, least => 1)), "600 0 400 $day", 'some';
    is run('b', budget(want => 600, least => 600)), "0 $half 400 $day",
        'not enough';
    is run('b', budget(want => 600, least => 1)), "400 $half 0 $day",
        'the rest';
    is get('budget'), "$day 1000";

    is run('a', budget(period => $day, charge => -100)), "0 0 100 $day",
        'given back';
    is run('a', budget(period => $day, charge => 300)), "0 0 0 $day",
        'overdrawn';
    is get('budget'), "$day 1200";

    fresh();
    is run('a', budget(period => $day, want => 10, least => 1, own => 700)),
        "10 0 290 $day", 'data that was lost';
    is run('b', budget(period => $day, own => 50)), "0 0 290 $day", 'less';

    fresh();
    run('a', budget(period => $day, want => 10, least => 1));
    is run('a', budget(period => $day, charge => 30, own => 40)),
        "0 0 960 $day", 'what was spent too much is charged once';
    is run('a', budget(period => $day, charge => -30, own => 10)),
        "0 0 990 $day", 'and so is what is given back';
};

subtest 'what a budget was told already' => sub {
    fresh();
    my $day = noon(2027, 3, 4);
    my @charge = (period => $day, charge => 100);
    is run('a', budget(@charge, debt => 'ax1:7')), "0 0 900 $day", 'charged';
    is run('a', budget(@charge, debt => 'ax1:7')), "0 0 900 $day",
        'again, as nobody heard the answer';
    is run('a', budget(period => $day, charge => -100, debt => 'ax1:7')),
        "0 0 900 $day", 'what is given back, too';
    is run('a', budget(@charge, debt => 'ax1:6')), "0 0 900 $day",
        'one that was overtaken';
    is run('a', budget(@charge, debt => 'ax11:1')), "0 0 800 $day",
        'another worker, with a name that begins alike';
    is run('a', budget(@charge, debt => 'ax1:8', want => 10, least => 1)),
        "10 0 690 $day", 'the next one';
    is run('a', budget(@charge, debt => 'ax1:8', want => 10, least => 1)),
        "10 0 680 $day", 'again, and granted again';
    is run('a', budget(period => $day, debt => 'ax1:9')), "0 0 680 $day",
        'nothing to tell';
    is get('budget'), "$day 320 ax11:1 ax1:8", 'no more than that is kept';

    run('a', budget(period => $day, charge => 1, debt => "bx$_:1"))
        for 1 .. 300;
    cmp_ok length get('budget'), '<', 1600, 'nor of more workers';
    is run('a', budget(period => $day, charge => 1, debt => 'bx300:1')),
        "0 0 380 $day", 'but of the last ones';

    $now += 86_400_000_000;
    run('a', budget(period => $day + 1, charge => 5, debt => 'ax1:9'));
    is get('budget'), $day + 1 . ' 5 ax1:9', 'a new day';
};

subtest 'the next period of a budget' => sub {
    fresh();
    my $day = noon(2027, 3, 4);
    run('a', budget(want => 1000, least => 1));

    $now += $half - 1;
    is run('a', budget(want => 1, least => 1)), "0 1 0 $day",
        'the last usec';
    $now += 1;
    is run('a', budget(period => $day, charge => -100, want => 1, least => 1,
                       own => 900)),
        '1 0 999 ' . ($day + 1), 'nothing of the old one counts';
    is run('a', budget(period => $day, charge => 50)),
        '0 0 999 ' . ($day + 1), 'nor what was spent then';
    is run('a', budget(period => $day + 2, charge => 50)),
        '0 0 949 ' . ($day + 1), 'by a clock that is ahead: now';
    is run('a', budget(period => $day + 2, charge => -50)),
        '0 0 949 ' . ($day + 1), 'and nothing back';
    is run('a', budget(charge => 10)),
        '0 0 939 ' . ($day + 1), 'by one that does not know the day';
    is get('budget'), $day + 1 . ' 61';

    command('HSET', $key, 'budget', 'rubbish');
    is run('a', budget(want => 1, least => 1)), '1 0 999 ' . ($day + 1),
        'what is no budget';
};

# the first day of the month of each day, and when it ends
subtest 'months' => sub {
    my (@lines, @wanted);
    my $add = sub {
        my ($first, $next, $time) = @_;
        $now = $time * 1_000_000;
        push @lines, line('a', budget(kind => 'month', want => 2000,
                                      least => 1));
        push @wanted, join ' ', '1000', $next * 86400 * 1_000_000 - $now, 0,
                           $first;
    };

    for my $year (1999 .. 2001, 2024 .. 2060, 2096 .. 2101, 2399 .. 2401) {
        for my $month (0 .. 11) {
            my $first = timegm(0, 0, 0, 1, $month, $year) / 86400;
            my $next = timegm(0, 0, 0, 1, ($month + 1) % 12,
                              $year + ($month == 11)) / 86400;

            $add->($first, $next, $_) for $first * 86400,
                $first * 86400 + 86399, ($first + 14) * 86400 + 1,
                ($next - 1) * 86400, $next * 86400 - 1;
        }
    }

    my @got = map { ref $_ ? join ' ', @$_[1 .. 4] : $_ }
              grep { ref $_ || $_ ne '1' }
              map { (commands([ 'DEL', $key ], $_))[1] } @lines;
    my @bad = grep { $got[$_] ne $wanted[$_] } 0 .. $#wanted;

    cmp_ok scalar @got, '>', 2000, 'days';
    is @bad ? "$lines[$bad[0]][-2]: $got[$bad[0]]" : '',
        @bad ? $wanted[$bad[0]] : '', 'each of them';
};


sub slots {
    my (%o) = @_;
    return [ 'c', 'c:', $o{quota} // 5, $o{used} // 0, $o{want} // 0,
             15_000_000, $o{call}, $o{less} // 1 ];
}

subtest 'requests at a time' => sub {
    fresh();
    noon(2027, 3, 4);
    is run('a', slots(want => 3, call => 1)), '3 0 2 1', 'some';
    is run('b', slots(want => 3, call => 1)), '2 0 0 1', 'the rest';
    is run('c', slots(want => 3, call => 1)), '0 0 0 1', 'none';
    is run('a', slots(used => 1, want => 1, call => 2)), '1 0 2 2', 'less';
    is run('c', slots(want => 3, call => 2)), '2 0 0 2', 'for another';
    is run('a', slots(used => 4, want => 4, call => 3)), '4 0 0 3',
        'what is used is used';
    is run('b', slots(used => 1, want => 2, call => 2)), '1 0 0 2',
        'and keeps others from more';

    is run('a', slots(used => 0, want => 0, call => 2)), '4 0 0 3',
        'a call that was overtaken changes nothing';
    is get('c:a') =~ s/ \d+ / /r, '4 3', 'nothing';
    is run('a', slots(used => 0, want => 0, call => 4)), '0 0 2 4', 'done';

    fresh();
    is run('a', slots(want => 4, call => 1)), '4 0 1 1', 'many';
    is run('a', slots(used => 1, want => 2, call => 2, less => 0)), '4 0 1 2',
        'kept: another worker may count on them';
    is run('a', slots(used => 1, want => 5, call => 3, less => 0)), '5 0 0 3',
        'and more';
};

subtest 'slots of who says nothing' => sub {
    fresh();
    run('dead', slots(want => 4, call => 9));
    $now += 14_999_999;
    is run('a', slots(want => 5, call => 1)), '1 0 0 1', 'just before';
    is run('a', slots(used => 1, want => 1, call => 2)), '1 0 0 2',
        'renewed';
    $now += 1;
    is run('a', slots(used => 1, want => 5, call => 3)), '5 0 0 3',
        'are free again';
    is get('c:dead'), 'none', 'and forgotten';

    $now += 15_000_001;
    is run('a', slots(used => 2, want => 3, call => 1)), '3 0 2 1',
        'one that starts to count anew';

    command('HSET', $key, 'c:odd', 'rubbish');
    is run('b', slots(want => 5, call => 1)), '2 0 0 1', 'rubbish';
    is get('c:odd'), 'none', 'is removed';

    fresh();
    is run('a', slots(used => 3, want => 4, call => 12)), '4 0 1 12',
        'and data that was lost';
};


subtest 'all in one call, and how long it is kept' => sub {
    fresh();
    my $day = noon(2027, 3, 4);
    is run('a', bucket(field => 'rate', want => 1, least => 1),
           bucket(want => 100, least => 1), budget(want => 7, least => 1),
           slots(want => 1, call => 1)),
        "1 0 99 0 100 0 0 0 7 0 993 $day 1 0 4 1", 'each its own';

    my $ttl = command('PTTL', $key);
    cmp_ok $ttl, '>', $half / 1000 - 1000, 'as long as the longest';
    cmp_ok $ttl, '<=', $half / 1000 + 1000;
    run('a', bucket(field => 'rate', want => 1, least => 1));
    cmp_ok command('PTTL', $key), '>', $half / 1000 - 5000, 'not less';

    fresh();
    run('a', bucket(want => 100, least => 1));
    $ttl = command('PTTL', $key);
    cmp_ok $ttl, '>', 900, 'a bucket until it is full again';
    cmp_ok $ttl, '<=', 1100;

    fresh();
    run('a', slots(want => 1, call => 1));
    $ttl = command('PTTL', $key);
    cmp_ok $ttl, '>', 15_000, 'slots as long as they are somebody\'s';
    cmp_ok $ttl, '<=', 16_000;

    command('HSET', $key, 'reset', $now);
    my $reply = command(@{ line('a', bucket()) });
    is $reply->[0], $now, 'what an operator has done';
};

subtest 'by the clock of Redis' => sub {
    fresh();
    my $before = time;
    my $reply = command('EVALSHA', $real, 1, $key, 'a', 0,
        @{ bucket(want => 100, least => 1) }, 0);
    is "@$reply", '0 100 0 0 0', 'asked';
    my $tat = get('tokens') / 1_000_000;
    cmp_ok $tat, '>=', $before, 'now';
    cmp_ok $tat, '<=', time + 2;
};

done_testing();
