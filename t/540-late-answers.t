# A Redis that does what it is told, and answers too late: a budget, which
# forgets nothing, is charged once all the same.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $root = $ENV{HYBRID_ROOT} || '.';
my $cloud = backend(name => 'cloud', args => { tokens => 20 });
my $redis = redis(name => 'redis');
my $port = free_port();
my $late = dir() . '/late';
my $proxy = HybridRedis::spawn('proxy', dir() . '/proxy.out', 'python3',
    "$root/t/lib/late_proxy.py", $port, $redis->{port}, $late);

my $client = client_block('spender', 'budget 1.00/d; egress any;');
my $gw = gateway(workers => 1, http => <<"END");
hybrid_zone 2m;
hybrid_redis 127.0.0.1:$port timeout=100ms;
$client->{conf}
hybrid_backend cloud { pass http://127.0.0.1:$cloud->{port}; models *;
    probe off; egress cloud; price output=10000; }
hybrid_route * cloud;
END

# 20 tokens cost 0.20, whatever was reserved
$cloud->mock('behave', { status => 200, body => { model => 'mistral:7b',
    message => { role => 'assistant', content => 'x' }, done => \1,
    prompt_eval_count => 1, eval_count => 20 } });

sub ask {
    return raw_http($gw->{port}, post($client, body => body('mistral:7b',
        more => { options => { num_predict => $_[0] } })))->{status};
}

sub spent {
    my $text = $redis->command('HGET', 'hybrid:{spender}:limits', 'budget');
    return ($text // '') =~ /^\d+ (\d+)/ ? $1 / 1e6 : 0;
}

ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis is there');
is(ask(20), 200, 'a request');
ok(wait_until(sub { spent() == 0.2 }), 'and what it has cost');

spew($late, '');
is(ask(1), 200, 'one that costs more than it has reserved');

my @seen;
for (1 .. 40) {
    sleep 0.2;
    push @seen, spent();
}

my ($most) = sort { $b <=> $a } @seen;
cmp_ok($most, '<=', 0.41, 'is charged once, however often it is told');

unlink $late;
# what was granted by an answer that came too late is lost: 0.01

ok(wait_until(sub { abs(spent() - 0.405) < 0.006 }, 30), "and not forgotten")
    or diag(spent());
ok(wait_until(sub { $gw->status->{redis}{available} }), 'in time again');
is(ask(20), 200, 'there is money left');
ok(wait_until(sub { abs(spent() - 0.605) < 0.006 }), 'of which that is spent')
    or diag(spent());

log_is_clean($gw, qr/redis "/, qr/revocations/);
ok($gw->stop, 'ended');
kill 'KILL', $proxy;
HybridRedis::ended($proxy, 5);
all_ended();
done_testing();
