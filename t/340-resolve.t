# Names of backends that lead to other addresses while the gateway runs.
# "127.1" is a name for nginx, and an address for the system's resolver.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $alice = $t->token('alice');
my $one = $t->backend('one', models => 'm1');
my $port = $one->{port};
my $two = $t->backend('two', models => 'm1', listen => "127.0.0.2:$port");
my $three = $t->backend('three', models => 'm1',
                        listen => "127.0.0.3:$port");

$two->{addr} = "127.0.0.2:$port";
$three->{addr} = "127.0.0.3:$port";
$t->{as} = $alice;

my $dns = "$t->{dir}/dns";
mkdir $dns;

sub leads_to {
    my (@addresses) = @_;
    $t->file('dns/names.new', Hybrid::encode({ '127.1' => \@addresses }));
    rename "$dns/names.new", "$dns/names.json";
}

sub nowhere {
    $t->file('dns/names.new', '{}');
    rename "$dns/names.new", "$dns/names.json";
}

leads_to('127.0.0.1');

my $server = Hybrid::_spawn($t->{dir}, "$t->{dir}/dns.out", 'python3',
                            "$Hybrid::ROOT/t/lib/odd_dns.py", $dns);
ok poll { -e "$dns/ready" }, 'a DNS server';
my $resolver = Hybrid::_slurp("$dns/port");

sub who {
    my ($model) = @_;
    my $r = $t->post('/api/chat', { model => 'm1',
                                    stream => JSON::PP::false });
    return $r->{status} == 200 ? $r->{headers}{'x-mock-name'} : $r->{status};
}

sub becomes {
    my ($wanted, $name) = @_;
    my $n = 0;
    my $got;

    ok poll { $got = who(); $n = $got eq $wanted ? $n + 1 : 0; $n >= 8 },
       $name or diag $got;
}

sub http {
    my (%o) = @_;
    my $zone = $o{zone} ? 'zone named 64k;' : '';
    my $more = $o{servers} // '';
    my $dns = $o{plain} ? ''
              : "resolver 127.0.0.1:$resolver ipv6=off; resolver_timeout 2s;";

    return <<"END";
    $dns
    hybrid_client alice { $alice->{line} models *; }
    upstream named { $zone server 127.1:$port max_fails=0; $more
                     keepalive 4; }
    hybrid_backend named { pass http://named; probe interval=200ms
                           passes=1; }
    hybrid_route * named;
END
}

$t->start(workers => 2, http => http(zone => 1));

for my $zone (1, 0) {
    my $what = $zone ? 'shared peers' : 'peers of each worker';

    if (!$zone) {
        leads_to('127.0.0.1');
        ok $t->reload(workers => 2, http => http()), $what;
    }

    becomes 'one', "$what: where it leads to at the start";

    leads_to('127.0.0.2');
    becomes 'two', "$what: another address";

    leads_to('127.0.0.3');
    becomes 'three', "$what: and another one";

    nowhere();
    ok poll { $t->log('error.log') =~ /can't be looked up again: Host not/ },
       "$what: a name that is no more";
    is who(), 'three', "$what: keeps its address" for 1 .. 4;

    leads_to('127.0.0.2');
    becomes 'two', "$what: and one from before";

    ok $t->reload, "$what: a reload";
    becomes 'two', "$what: goes on with it";
}

# requests in flight keep what they have

$two->behave(delay_ms => 4000);
my $s = $t->open;
my $body = '{"model":"m1","stream":false}';
$s->send("POST /api/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
         . $t->auth_lines($alice)
         . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
ok $two->wait(sub { $_->{active} == 1 }), 'a request';
leads_to('127.0.0.1');
becomes 'one', 'while its name moves';
like $s->read_until(qr/X-Mock-Name: \w+/), qr/200 OK.*two/s,
     'is answered by whom it was sent to';
$two->behave;

# a peer without an address waits for one

leads_to('127.0.0.1', '127.0.0.2');
ok $t->reload(workers => 1, http => http(servers =>
              "server 127.0.0.3:$port backup;")), 'with a backup';
leads_to('127.0.0.1');
becomes 'one', 'before that one';

# without a resolver

leads_to('127.0.0.2');
ok $t->reload(workers => 1, http => http(plain => 1)), 'no resolver';
becomes 'one', 'what the system says at the start';
like $t->log('error.log'), qr/"127.1" in upstream "named" is looked up once/,
     'with a warning';

Hybrid::_end($server, 'KILL');

$t->done;
