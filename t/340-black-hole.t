# Paths that die silently: what is sent is neither acknowledged nor refused.
# And hosts that are slow, but acknowledge, which must not be taken for dead.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $alice = $t->{as} = $t->token('alice');
my ($forge, $anvil) = map { $t->backend($_, models => 'm,slow') }
                      qw(forge anvil);

# played by the test itself
my $busy = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
    Proto => 'tcp', Timeout => $Hybrid::PATIENCE) or die "listen: $!";
my $busy_addr = '127.0.0.1:' . $busy->sockport;

my $http = <<"END";
    hybrid_client alice { $alice->{line} models *; }
    upstream forge { server $forge->{addr} max_fails=0; keepalive 8; }
    upstream anvil { server $anvil->{addr} max_fails=0; keepalive 8; }
    upstream busy { server $busy_addr; keepalive 8; }
    hybrid_backend forge { pass http://forge; probe off; }
    hybrid_backend anvil { pass http://anvil; probe off; }
    hybrid_backend busy { pass http://busy; probe off; }
    hybrid_route m forge anvil;
    hybrid_route slow forge;
    hybrid_route big busy;
END

$t->start(http => $http, proxy => sub {
    s/proxy_connect_timeout \d+s/proxy_connect_timeout 1s/ or die;
});

my $size = 3 * 1024 * 1024;


sub ask {
    my ($model, %more) = @_;
    return $t->post('/api/chat', { model => $model, stream => \0,
                                   messages => [], %more });
}

sub backend { $_[0]{headers}{'x-hybrid-backend'} // '' }
sub why { $_[0]{headers}{'x-hybrid-fallback'} // '' }


# -- a kept connection

is backend(ask('m')), 'forge', 'the first machine, over a new connection';
is backend(ask('m')), 'forge', 'and again';
is $forge->last->{connection}, ($forge->requests)[0]{connection},
   'over the kept connection';

$forge->deaf(600);

my $start = time;
my $r = ask('m');
is $r->{status}, 200, 'its path died: the request is answered';
is backend($r), 'anvil', 'by another machine';
is why($r), 'timeout', 'which is told as a timeout';
cmp_ok time - $start, '<', $Hybrid::PATIENCE, 'within seconds';
like $t->wait_log('error.log', qr/no acknowledgement/),
     qr/no acknowledgement of what was sent to 127\.0\.0\.1:\d+ for \d+ ms/,
     'the log tells why';

$r = ask('m');
is backend($r), 'anvil', 'a new connection finds nobody either';
unlike $t->log('error.log'), qr/acknowledgement.*acknowledgement/s,
       'which is nginx to tell';

$forge->stop;
$forge->start;


# -- many at a time

my $body = '{"model":"m","messages":[],"stream":false}';


sub begin {
    my $s = $t->open;
    $s->send("POST /api/chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
             . $t->auth_lines . 'Content-Length: ' . length($body)
             . "\r\n\r\n$body");
    return $s;
}


$forge->behave(delay_ms => 1000);
$_->read_until for map { begin() } 1 .. 8;
$forge->behave;
is $forge->stats->{open}, 9, 'eight connections are kept';   # and this one
$forge->deaf(600);

my @answers = map { $_->read_until } map { begin() } 1 .. 8;
is scalar(grep { /X-Hybrid-Backend: anvil/ } @answers), 8,
   'all are dead, and all requests go on';

$forge->stop;
$forge->start;
is backend(ask('m')), 'forge', 'which says nothing of the model there';


# -- in the middle of a body

is backend(ask('m')), 'forge', 'the path is back';
$forge->deaf(600);
$r = ask('m', filler => 'x' x $size);
is backend($r), 'anvil', 'a large body is lost on the way: all of it goes on';
cmp_ok $anvil->last->{body_length}, '>', $size, 'and whole';

$forge->stop;
$forge->start;


# -- a client that does not wait, a reload

for my $event ('leaves', 'reloads') {
    is backend(ask('m')), 'forge', 'the path is back';
    $forge->deaf(600);

    my $s = begin();

    if ($event eq 'leaves') {
        $s->close;
        select undef, undef, undef, 2;
        is $t->get('/api/version')->{status}, 200,
           'a client leaves while its request is unheard';

    } else {
        ok $t->reload, 'a reload while a request is unheard';
        like $s->read_until(qr/"done":true/), qr/^HTTP\S+ 200/,
             'the old worker moves it on';
    }

    $forge->stop;
    $forge->start;
}


# -- slow is not dead

$forge->behave(delay_ms => 3500, times => 1);
$r = ask('slow');
is $r->{status}, 200, 'silence longer than the connect timeout';
is why($r), '', 'is waited for';

{
    my $pid = fork // die "fork: $!";

    # takes what the kernel has room for, and the rest after three seconds
    if ($pid == 0) {
        my $s = $busy->accept or POSIX::_exit(1);
        select undef, undef, undef, 3.5;

        my $got = 0;
        while ($got < $size && (my $n = sysread $s, my $part, 65536)) {
            $got += $n;
        }

        print $s "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        $s->flush;
        sysread $s, my $rest, 1 << 22;
        POSIX::_exit(0);
    }

    $r = ask('big', filler => 'x' x $size);
    is $r->{status}, 200, 'a host that has no room for a while';
    is $r->{content}, '{}', 'gets the whole body';

    kill KILL => $pid;
    waitpid $pid, 0;
}

unlike substr($t->log('error.log'), -2000), qr/acknowledgement.*$busy_addr/,
       'nobody was taken for dead';

$t->done;
