# Real sentinels, a master and replicas: failovers of all kinds under load,
# sentinels that are away, behind, or wrong.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use HybridRedisGroup;
use MockRedis;
use Test::More;
use Time::HiRes 'sleep';

# ACL users, and passwords of sentinels, are of 6.2

if (`redis-server --version` !~ /v=(\d+)\.(\d+)/ || $1 * 100 + $2 < 602) {
    plan(skip_all => 'needs redis-server 6.2 or later');
}

my $set = sentinels(replicas => 2, sentinels => 3,
    args => [ '--requirepass', 'of-all', '--masterauth', 'of-all',
        '--user', 'gate', 'on', '>of-gate', '~hybrid:*', '+@all' ],
    login => [ [ 'AUTH', 'of-all' ] ],
    sentinel_conf => "sentinel auth-pass main of-all\n"
        . "requirepass of-sentinel\nsentinel sentinel-pass of-sentinel",
    sentinel_login => [ [ 'AUTH', 'of-sentinel' ] ]);

my $nobody = free_port();
my $gate = spew(dir() . '/gate', "of-gate\n");
my $word = spew(dir() . '/word', "of-sentinel\n");
my $where = join(' ', map { "127.0.0.1:$_" } $nobody,
    map { $_->{port} } @{ $set->{sentinels} })
    . " username=gate password_file=$gate sentinel_password_file=$word";

my %client = map { $_->{name} => $_ }
    client_block('busy', 'rate 50r/s burst=10;'),
    client_block('closed', 'rate 1r/s burst=100 loss=closed;'),
    client_block('rare', 'rate 10r/h burst=20;');

sub conf {
    my ($where, $timeout, $name) = @_;
    return "hybrid_zone 2m;\nhybrid_redis $where sentinel=" . ($name // 'main')
        . " timeout=$timeout;\n" . join('', map { $_->{conf} } values %client)
        . "hybrid_backend none { pass http://127.0.0.1:9; models a;"
        . " probe off; }\n"
        . "hybrid_route * none;\n";
}

# a list of models needs no backend, but a credit as all requests do
sub ask {
    my ($client) = @_;
    return "GET /api/tags HTTP/1.1\r\nHost: x\r\n$client->{headers}"
        . "Connection: close\r\n\r\n";
}

sub limits {
    my ($gw, $name) = @_;
    my $answer = raw_http($gw->{port}, ask($client{$name}));
    return "$answer->{status} " . ($answer->{headers}{'x-hybrid-limits'}
        // '-');
}

# all workers
sub with_redis {
    my ($gw, $seconds) = @_;
    my $row = 0;
    return wait_until(sub {
        $row = limits($gw, 'busy') =~ / -$/ ? $row + 1 : 0;
        return $row >= 12 }, $seconds);
}

my @expected = (qr/\[error\].*redis "/,
    qr/\[(?:error|warn)\].*redis sentinel "/,
    qr/no revocations are known/);
my @gw = map { gateway(name => "gw$_", workers => 2,
    http => conf($where, '500ms')) } 1, 2;


subtest 'the master is found' => sub {
    ok(with_redis($_), "$_->{name}: with Redis") for @gw;
    my $master = $set->master;
    like($master->command('HGET', 'hybrid:{busy}:limits', 'rate'), qr/^\d{16}$/,
        'with the master');
    like(slurp($gw[0]{log}),
        qr/redis master "main" is "127.0.0.1:$master->{port}" now/, 'said so');

    # nobody has to wait for it, or does without, when a worker starts

    my $load = load(rate => 200, request => sub {
        return ($gw[0], ask($client{closed})) });
    for (1 .. 2) { sleep 0.3; ok($gw[0]->reload, 'reloaded') }
    sleep 0.3;
    my $rows = $load->stop;
    is(scalar(grep { $_->{limits} } @$rows), 0, 'all decided by Redis');
    is(scalar(grep { $_->{status} !~ /^(?:200|429)$/ } @$rows), 0,
        'all are answered') or diag(explain(numbers($rows)));
};


# what is done to the master, and whether it comes back by itself
sub failover {
    my ($what, $do, $undo) = @_;

    subtest $what => sub {
        my $old = $set->master;
        my $load = load(rate => 300, request => sub {
            return ($gw[ $_[0] % 2 ], ask($client{busy})) });
        sleep 1;
        my $from = now();
        $do->($old);

        my $new;
        ok(wait_until(sub {
            ($new) = grep { $_ != $old && $set->is_master($_) }
                @{ $set->{nodes} } }, 60), 'promoted');
        my $promoted = now();
        ok(wait_until(sub { slurp($_->{log})
            =~ /.*"main" is "127.0.0.1:(\d+)" now/s && $1 == $new->{port} }),
            "$_->{name} follows") for @gw;
        my $followed = now();
        ok(with_redis($_), "$_->{name}: with Redis") for @gw;
        sleep 1;
        $undo->($old);
        sleep 3;

        my $rows = $load->stop;
        my %n = %{ numbers($rows) };
        is_deeply([ sort keys %n ], [ 200, 429 ], 'no failed request')
            or diag(explain(\%n));

        my @without = grep { $_->{limits} } @$rows;
        my ($last) = sort { $b <=> $a } $followed, map { $_->{end} } @without;
        note(sprintf 'promoted after %.2f s, last decided without Redis '
            . '%.2f s after that, %d of %d requests', $promoted - $from,
            $last - $promoted, scalar @without, scalar @$rows);

        # together what the limit says; while Redis is away each by itself,
        # what was leased before, and what the new master has not heard of

        my $time = $rows->[-1]{end} - $rows->[0]{start};
        my $limit = 10 + 50 * $time + 1;
        my $most = $limit + 10 + 50 * ($last - $from) + 2 * 5;
        my $got = admitted($rows);
        cmp_ok($got, '<=', $most, sprintf '%d admitted in %.1f s, the limit '
            . 'says %d, at most %d', $got, $time, $limit, $most);
        cmp_ok($got, '>=', 0.6 * 50 * $time, 'and not too few');

        ok(wait_until(sub { $set->settled }, 60), 'all is well again');

        # on a busy machine sentinels may have chosen once more
        note('master: ' . $set->master->{name});
        ok(with_redis($_), "$_->{name}: with Redis") for @gw;
    };
    return;
}

failover('the master is killed', sub { $_[0]->stop('KILL') }, sub {
    $_[0]->start });

failover('the master freezes, and comes back', sub { $_[0]->freeze }, sub {
    $_[0]->thaw });

failover('another one is to be master', sub {
    $set->{sentinels}[0]->command('SENTINEL', 'FAILOVER', 'main') }, sub { });


subtest 'sentinels go' => sub {
    my $mark = length slurp($gw[0]{log});
    my $master = $set->master;
    $_->freeze for @{ $set->{sentinels} };
    sleep 2;
    is(limits($gw[0], 'busy') =~ s/.* //r, '-', 'Redis is used without them');

    # the connection to the master is lost: it is still the last one known

    $master->command('CLIENT', 'KILL', 'USER', 'gate');
    ok(with_redis($_, 30), "$_->{name}: connected again") for @gw;
    like(substr(slurp($gw[0]{log}), $mark), qr/redis sentinel ".*" is away/,
        'the log tells');
    $_->thaw for @{ $set->{sentinels} };
    wait_until(sub { $set->settled }, 60);
    ok(with_redis($_), "$_->{name}: well") for @gw;
};


subtest 'what sentinels say' => sub {
    my $master = $set->master;
    my ($replica) = grep { $_ != $master } @{ $set->{nodes} };
    my %name = map { $_ => sprintf "*2\r\n\$9\r\n127.0.0.1\r\n\$%d\r\n%d\r\n",
        length $_->{port}, $_->{port} } $master, $replica;
    my $behind = MockRedis->new;
    my $good = MockRedis->new;
    $good->set(SENTINEL => $name{$master});
    my $conf = "$behind->{addr} $good->{addr} username=gate "
        . "password_file=$gate";

    my %says = (
        'that a replica is the master' => [ $name{$replica},
            qr/is away \(it is not a master\)/ ],
        'a dead one' => [ $name{$master} =~ s/\$\d+\r\n\d+\r\n$/
            '$' . length($nobody) . "\r\n$nobody\r\n"/er, qr/refused/ ],
        'that it does not know the master' => [ "*-1\r\n",
            qr/does not know the master "main"/ ],
        'a name' => [ "*2\r\n\$5\r\nredis\r\n\$4\r\n6379\r\n",
            qr/must not announce names\) "redis"/ ],
        'no port' => [ "*2\r\n\$9\r\n127.0.0.1\r\n\$5\r\n70000\r\n",
            qr/no address/ ],
        'an integer' => [ ":1\r\n", qr/unexpected answer/ ],
        'an array of one' => [ "*1\r\n\$1\r\na\r\n", qr/unexpected answer/ ],
        'an error' => [ "-ERR unknown command\r\n", qr/unexpected answer/ ],
        'that it refuses' => [ "-NOAUTH Authentication required.\r\n",
            qr/sentinel ".*" can't serve: "NOAUTH/ ],
        'nothing' => [ 'never', qr/is away \(no answer in time\)/ ],
        'good-bye' => [ 'close', qr/is away \(/ ],
    );

    for my $what (sort keys %says) {
        my ($answer, $why) = @{ $says{$what} };
        $behind->well;
        $behind->set(SENTINEL => $answer);
        my $gw = gateway(workers => 1, http => conf($conf, '500ms'));
        ok(with_redis($gw, 30), "$what: the other one is asked");

        # a worker may have asked the good one first, and again ever since

        for (1 .. 20) {
            last if slurp($gw->{log}) =~ $why;
            $gw->reload;
            with_redis($gw, 30);
        }
        like(slurp($gw->{log}), $why, 'the log tells');
        my $lines = () = slurp($gw->{log}) =~ /redis/g;
        cmp_ok($lines, '<=', 200, "in $lines lines");
        ok($gw->stop, 'ended');
        log_is_clean($gw, @expected);
    }

    # both know nothing

    $_->set(SENTINEL => "*-1\r\n") for $behind, $good;
    my $gw = gateway(workers => 1, http => conf($conf, '500ms'));
    ok(wait_until(sub { limits($gw, 'rare') =~ / local$/ }), 'no master');
    ok(wait_until(sub { slurp($gw->{log})
        =~ /redis "main" is away \(no sentinel names it\)/ }), 'said so');
    is(limits($gw, 'closed'), '503 closed', 'loss=closed');
    $good->set(SENTINEL => $name{$master});
    ok(with_redis($gw, 30), 'one learns of it');
    ok($gw->stop, 'ended');
    log_is_clean($gw, @expected);

    # a master that takes no writes

    my $mock = MockRedis->new;
    my $port = $mock->{addr} =~ s/.*://r;
    $mock->set(ROLE => "*1\r\n\$6\r\nmaster\r\n");
    $mock->set(EVALSHA => "-READONLY You can't write\r\n");
    $good->set(SENTINEL => sprintf "*2\r\n\$9\r\n127.0.0.1\r\n\$%d\r\n%d\r\n",
        length $port, $port);
    $gw = gateway(workers => 1, http => conf("$good->{addr} username=gate "
        . "password_file=$gate", '500ms'));
    ok(wait_until(sub { limits($gw, 'rare') =~ / local$/ }), 'READONLY');
    my $asked = $good->count('SENTINEL');
    ok(wait_until(sub { limits($gw, 'rare'); $good->count('SENTINEL')
        >= $asked + 5 }), 'the sentinel is asked again');
    $good->set(SENTINEL => $name{$master});
    ok(with_redis($gw, 30), 'until it names another one');
    ok($gw->stop, 'ended');
    log_is_clean($gw, @expected, qr/revocations/);
};


for my $gw (@gw) {
    ok($gw->stop, 'ended');
    log_is_clean($gw, @expected, qr/revocations can't be read/);
}

$set->stop;
all_ended();
done_testing();
