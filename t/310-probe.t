# Probes: what makes a path dead or alive, who is told of it, and that a
# machine is not asked for more than it has to be.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm1,m2', token_ms => 1);
my $anvil = $t->backend('anvil', models => 'm1,m2');
my $spare = $t->backend('spare', models => 'm1,m2');
my $alice = $t->token('alice');

$t->{as} = $alice;

my $http = <<"END";
    hybrid_client alice { $alice->{line} models *; }

    upstream forge { zone forge 64k; server $forge->{addr}; }
    upstream anvil { zone anvil 64k; server $anvil->{addr}; }

    hybrid_backend forge { pass http://forge;
        probe interval=200ms timeout=500ms fails=2 passes=3 slow=300ms; }
    hybrid_backend anvil { pass http://anvil;
        probe interval=200ms timeout=500ms; }
    hybrid_route m1 forge anvil;
    hybrid_route m2 forge;
END

my $proxy = sub { s/^proxy_connect_timeout .*$/proxy_connect_timeout 60s;/m;
                  s/^proxy_read_timeout .*$/proxy_read_timeout 60s;/m };

$t->start(workers => 2, http => $http, proxy => $proxy);


sub chat {
    my ($model, @o) = @_;
    return $t->post('/api/chat', { model => $model, stream => 0 }, @o);
}

sub who { return chat(@_)->{headers}{'x-mock-name'} // '' }

# the messages of this pattern that have come since the last look
my $looked = 0;

sub said {
    my ($regex) = @_;
    my $found = poll { substr($t->log('error.log'), $looked) =~ /($regex)/ };
    my $text = $t->log('error.log');
    my $n = () = substr($text, $looked) =~ /$regex/g;

    $looked = length $text;

    return $n;
}


# one list an interval, over all workers

ok poll { ($forge->probes) >= 12 }, 'a backend is probed';

my @probes = $forge->probes;
my @lists = grep { $_->{target} eq '/api/tags' } @probes;
my $span = $lists[-1]{time} - $lists[0]{time};

cmp_ok $#lists, '<=', $span / 0.2 + 1, 'once an interval by two workers';
like $lists[0]{header}{'user-agent'}, qr{^hybrid-probe/\d},
     'probes tell what they are';
is $lists[0]{header}{host}, 'localhost:11434', 'as the backend is called';
is $lists[0]{header}{connection}, 'close', 'on a connection of its own';
is scalar($forge->requests), 0, 'the mock does not count them as requests';


# 5xx: after so many in a row, and back after so many

is who('m1'), 'forge', 'the first choice is there';

$forge->behave(status => 500, probes => 'only', times => 1);
ok poll { !$forge->control('GET', 'behave')->{times} },
   'one probe is answered with 500';
sleep 0.3;
is who('m1'), 'forge', 'which alone is nothing';

$forge->behave(status => 503, probes => 'only');
is said(qr/"$forge->{addr}" of backend "forge" is down: .* 503/), 1,
   'two are enough, it is logged once';

for (1 .. 8) {
    is who('m1'), 'anvil', 'every worker skips it at once';
}

is chat('m2')->{status}, 503, 'and where it was the only one nobody is left';

$forge->clear;
is said(qr/path "$forge->{addr}" of backend "forge" is up again/), 1,
   'it comes back';
@lists = grep { $_->{target} eq '/api/tags' } $forge->probes;
cmp_ok scalar(@lists), '>=', 3, 'after three good probes';
is who('m1'), 'forge', 'and is the first choice again';
is who('m2'), 'forge', 'for all models';


# any other status is an answer

for my $status (200, 204, 301, 400, 401, 403, 404, 429) {
    $forge->clear;
    $forge->answers('/api/tags' => { status => $status, body => 'no' });
    ok poll { grep({ $_->{target} eq '/api/tags' } $forge->probes) >= 3 },
       "status $status";
    is who('m1'), 'forge', "a machine that says $status is there";
}

$forge->answers;


# slow

$forge->behave(delay_ms => 400, probes => 'only');
is said(qr/path "$forge->{addr}" of backend "forge" is slow: \d+ ms/), 1,
   'a slow path is told of once';
is who('m1'), 'forge', 'in another group it is still the better one';
$forge->clear;
is said(qr/path "$forge->{addr}" of backend "forge" is not slow any more/),
   1, 'also when it is over';


# silence: requests that wait are moved on, not only new ones

$forge->behave(hang_before_header => 1, probes => 1, all => 1);

my $from = time;
my $r = chat('m1', timeout => 30);
my $took = time - $from;

is $r->{status}, 200, 'a request that waits on a path that died';
is $r->{headers}{'x-mock-name'}, 'anvil', 'is answered by the next one';
is $r->{headers}{'x-hybrid-fallback'}, 'timeout', 'and says why';
cmp_ok $took, '<', 20, 'long before its own timeout';
is said(qr/path "$forge->{addr}" of backend "forge" is down: .*timed out/),
   1, 'the probes have found it';

$from = time;
is who('m1'), 'anvil', 'new ones do not try';
cmp_ok time - $from, '<', 2, 'and do not wait';

$forge->clear;
is said(qr/path "$forge->{addr}" of backend "forge" is up again/), 1,
   'it speaks again';


# refused, and what a reload keeps

$forge->stop;
is said(qr/path "$forge->{addr}" of backend "forge" is down: connect/), 1,
   'nobody listens';
ok $t->reload, 'a reload';
$from = time;

is who('m1'), 'anvil', 'new workers know it' for 1 .. 4;
unlike $t->log('error.log'), qr/connect\(\) failed .* upstream/,
       'and did not have to find out';

$forge->start;
is said(qr/path "$forge->{addr}" of backend "forge" is up again/), 1,
   'it listens again';
ok poll { who('m1') eq 'forge' }, 'and is used';


# a worker that dies in its turn

$forge->behave(hang_before_header => 1, probes => 'only');
sleep 0.25;
$t->expect_log(qr/exited on signal 9/);
kill KILL => (Hybrid::_workers($t->{pid}))[0];
$forge->clear;
ok poll { ($forge->probes) >= 4 }, 'another worker goes on probing';

$t->reload(workers => 2, proxy => $proxy, http => $http =~
           s/probe interval=[^;]*;/probe off;/gr);
sleep 1;
$forge->clear;
sleep 1;
is scalar($forge->probes), 0, '"probe off" asks nothing';

$t->done;
