# Machines that answer probes and nothing else: models that should have left
# the memory long ago, requests that no byte comes for.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm1,m2');
my $anvil = $t->backend('anvil', models => 'm1,m2');
my $alice = $t->token('alice');

$t->{as} = $alice;

$t->start(workers => 2, http => <<"END",
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend forge { pass http://$forge->{addr};
        probe interval=100ms stall=1500ms; }
    hybrid_backend anvil { pass http://$anvil->{addr};
        probe interval=100ms stall=1500ms; }
    hybrid_route m1 forge anvil;
    hybrid_route m2 forge;
END
    location => '', server => 'location = /status { hybrid_status json; }');

sub who {
    my ($model) = @_;
    my $r = $t->post('/api/chat', { model => $model,
                                    stream => JSON::PP::false });
    return $r->{status} == 200 ? $r->{headers}{'x-mock-name'} : $r->{status};
}

sub stuck {
    my ($wanted) = @_;
    return poll {
        my ($b) = grep { $_->{name} eq 'forge' }
                  @{$t->get('/status')->{json}{backends} || []};
        $b && !!$b->{stuck} == !!$wanted && $b;
    };
}

sub count { my ($regex) = @_; return () = $t->log('error.log') =~ /$regex/g }

my $says = qr/backend "forge" is stuck/;
my $over = qr/backend "forge" is not stuck any more/;


# expires_at long past

$forge->loaded(m1 => 300);
my $b = stuck(0);
ok $b, 'a machine with a loaded model is well';
ok poll { (stuck(0)->{loaded}[0] // '') eq 'm1:latest' },
   'and the status says which';

$forge->loaded(m1 => -30);
ok poll { grep({ $_->{target} eq '/api/ps' } $forge->probes) >= 8 }, 'probes';
sleep 0.3;
is count($says), 0, 'one that is late by less than a minute is nothing';

$forge->loaded(m1 => -100);
ok stuck(1), 'one that should have gone long ago is';
is who('m1'), 'anvil', 'the machine is passed over' for 1 .. 4;
is who('m2'), 'forge', 'unless nobody else is left';
sleep 0.5;
is count($says), 1, 'it is logged once';

$forge->loaded(m1 => 300);
ok stuck(0), 'over';
is who('m1'), 'forge', 'and back';
is count($over), 1, 'which is logged once too';

# a clock that is wrong is compared with itself

$forge->answers('/api/ps' => { body => '{"models":[{"name":"m1",'
    . '"expires_at":"2020-01-01T00:10:00Z"}]}',
    headers => { Date => 'Wed, 01 Jan 2020 00:08:00 GMT' } });
sleep 0.5;
is who('m1'), 'forge', 'a clock that is years behind is no fault';
$forge->answers('/api/ps' => { status => 404, body => '404 page not found' });
sleep 0.5;
is who('m1'), 'forge', 'nor is a machine without /api/ps';
$forge->answers('/api/ps' => { body => '{"models":[' });
sleep 0.5;
is who('m1'), 'forge', 'nor one that sends garbage';
$forge->answers;


# no byte for any request

$forge->behave(hang_before_header => 1);
my $s = $t->open;
my $body = '{"model":"m1","stream":false}';

$s->send("POST /api/chat HTTP/1.1\r\nHost: x\r\n" . $t->auth_lines($alice)
         . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
ok $forge->wait(sub { $_->{active} == 1 }), 'a request that hangs';
ok stuck(1), 'for longer than "stall"';
like $t->log('error.log'), qr/is stuck: no byte for 1 requests/, 'is told of';
$forge->behave;
is who('m1'), 'anvil', 'others are not sent there';

$s->close;
ok stuck(0), 'it is over when the request has gone';
is who('m1'), 'forge', 'and it is the first choice again';


# a load takes its time, and is seen by the list of loaded models

$forge->behave(hang_before_header => 1);
$s = $t->open;
$s->send("POST /api/chat HTTP/1.1\r\nHost: x\r\n" . $t->auth_lines($alice)
         . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
ok $forge->wait(sub { $_->{active} == 1 }), 'another one';

my $before = count($says);

for (1 .. 10) {
    $forge->loaded(m1 => 300 + $_);
    sleep 0.3;
}

is count($says), $before, 'a machine that loads models is not stuck';
$s->close;

$t->done;
