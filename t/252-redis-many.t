# Many clients in Redis: those that a worker keeps, and those that the zone has
# room for, come and go.

use strict;
use warnings;

use lib 't/lib';
use Digest::SHA 'sha256_hex';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $KEPT = 2048;                # by a worker
my $redis = redis(name => 'redis');

sub conf {
    my ($zone) = @_;
    return "hybrid_zone $zone;\n"
        . "hybrid_redis 127.0.0.1:$redis->{port} timeout=8s;\n"
        . "hybrid_clients redis;\n"
        . "hybrid_backend none { pass http://127.0.0.1:9; models *;"
        . " probe off; }\n"
        . "hybrid_route * none;\n";
}

$redis->command('EVAL', <<'END', 0, $KEPT + 100, sha256_hex('secret'));
for i = 1, ARGV[1] do
  redis.call('HSET', 'hybrid:client:{c' .. i .. '}', 'models', '*',
             'token', 'c' .. i .. ' sha256:' .. ARGV[2],
             'rate', '1000r/s burst=1000')
  redis.call('HSET', 'hybrid:identities', 'token:c' .. i, 'c' .. i)
end
redis.call('HSET', 'hybrid:identities', '.epoch', 'e', '.seq', 1,
           '.version', 'v')
END

# a list of models needs no backend
sub answer {
    my ($gw, $n) = @_;
    return raw_http($gw->{port}, "GET /api/tags HTTP/1.1\r\nHost: x\r\n"
        . "Authorization: Bearer c$n:secret\r\nConnection: close\r\n\r\n");
}

sub status { return answer(@_)->{status} }

sub calls {
    my $info = $redis->command('INFO', 'commandstats');
    return $info =~ /^cmdstat_hgetall:calls=(\d+)/m ? $1 : 0;
}

sub zone { return $_[0]->status->{zone} }

my $large = gateway(name => 'large', workers => 1, http => conf('16m'));
my $small = gateway(name => 'small', workers => 1, http => conf('512k'));

# as many as it has room for
ok(wait_until(sub { status($small, 1) == 200 }), 'they are known');
my ($fits, $answer) = (1);
$fits++ while ($answer = answer($small, $fits + 1))->{status} == 200
    && $fits < 2000;
my $full = now();
cmp_ok($fits, '>', 40, "$fits clients fit into a small zone");
is($answer->{status}, 503, 'and then none');
is($answer->{headers}{'x-hybrid-reason'}, 'client_unavailable', 'so');
is(zone($small)->{clients_reused}, 0, 'those that are used are kept');


subtest 'those that a worker keeps' => sub {
    ok(wait_until(sub { status($large, 1) == 200 }), 'they are known');

    my $asked = calls();
    my @got = grep { status($large, $_) != 200 } 2 .. $KEPT;
    is(scalar @got, 0, 'as many as it keeps');
    is(calls() - $asked, $KEPT - 1, 'each was fetched');
    status($large, $_) for 1, 3 .. 30;
    is(calls() - $asked, $KEPT - 1, 'once');

    status($large, $_) for $KEPT + 1 .. $KEPT + 10;
    is(calls() - $asked, $KEPT + 9, 'some more');
    status($large, $_) for 1, 3 .. 30;
    is(calls() - $asked, $KEPT + 9, 'who was there lately is kept');
    status($large, $_) for 2, 31 .. 39;
    is(calls() - $asked, $KEPT + 19, 'who was not is fetched again');

    my $zone = zone($large);
    is($zone->{clients}, $KEPT + 10, 'all have their place in the zone');
    is($zone->{clients_reused}, 0, 'and keep it');
};


subtest 'those that the zone has room for' => sub {
    my $new = $fits + 1;
    ok(wait_until(sub { status($small, $new) == 200 }, 60),
        'who is idle makes room');
    cmp_ok(now() - $full, '>', 5, 'after a while');

    my @in = $new + 1 .. $new + int $fits / 3;
    is(scalar(grep { my $n = $_;
        !wait_until(sub { status($small, $n) == 200 }, 60) } @in), 0,
        scalar(@in) . ' more');

    my $zone = zone($small);
    is($zone->{clients}, $fits, 'no new places');
    cmp_ok($zone->{clients_reused}, '>=', @in + 1, 'old ones were reused');
};


log_is_clean($small, qr/\[warn\].*client "c\d+" in redis is refused: /);
like(slurp($small->{log}), qr/is refused: hybrid_zone is full: make it larger/,
    'the log says what to do');
log_is_clean($large);
ok($_->stop, "$_->{name} ends") for $small, $large;
all_ended();
done_testing();
