# How a body gets to the backend: it is read once, and sent without waiting.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Errno;
use POSIX ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_KEEPCNT TCP_KEEPIDLE TCP_KEEPINTVL
              TCP_NODELAY);
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm');
my $alice = $t->{as} = $t->token('alice');

my $proxy = "location / { hybrid_access token; include %PROXY%; }";

$t->start(
    proxy => sub { s/^client_body_buffer_size.*//m },
    http => <<"END");
    hybrid_client alice { $alice->{line} models m; }
    upstream forge { server $forge->{addr}; keepalive 4; }
    hybrid_backend forge { pass http://forge; models m; }
    hybrid_route * forge;

    server { listen 127.0.0.1:%PORT1%;  client_body_buffer_size 8m;  $proxy }
    server { listen 127.0.0.1:%PORT2%;  client_body_buffer_size 1k;  $proxy }
END

# 4 MiB, the model as its last key
my $big = '{"prompt":"' . 'All work and no play. ' x 190_000
          . '","stream":false,"model":"m"}';

# bytes that the worker has read from files so far
sub worker_read {
    my ($worker) = Hybrid::_workers($t->{pid});
    open my $in, '<', "/proc/$worker/io" or return undef;
    my ($n) = join('', <$in>) =~ /^rchar: (\d+)$/m;
    return $n;
}

subtest 'read once' => sub {
    plan skip_all => 'no /proc/PID/io' unless defined worker_read();

    for my $case ([ 1, 0, 'in memory' ], [ 2, length $big, 'spooled' ]) {
        my ($server, $expected, $name) = @$case;
        my $before = worker_read();
        is $t->post('/api/generate', $big, port => $t->port($server))
            ->{status}, 200, $name;

        # what is spooled is read to be sent, and not to be looked at
        my $n = worker_read() - $before;
        cmp_ok $n, '>=', $expected, 'as often as it is sent';
        cmp_ok $n, '<', $expected + 256 * 1024, 'and not again';
    }
};


# the worker's own connections to the backend, as duplicates
sub upstream_sockets {
    my ($worker) = Hybrid::_workers($t->{pid});
    my @sockets;
    my $pidfd = syscall 434, $worker + 0, 0;            # pidfd_open
    plan skip_all => "pidfd_open: $!" if $pidfd < 0;
    for my $fd (map { m{/(\d+)$} } glob "/proc/$worker/fd/*") {
        next if (readlink("/proc/$worker/fd/$fd") // '') !~ /^socket:/;
        my $copy = syscall 438, $pidfd, $fd + 0, 0;     # pidfd_getfd
        plan skip_all => "pidfd_getfd: $!" if $copy < 0 && !$!{EBADF};
        next if $copy < 0;
        open my $socket, '+<&=', $copy or next;
        my $peer = getpeername $socket or next;
        next if sockaddr_family($peer) != AF_INET;
        push @sockets, $socket
            if (unpack_sockaddr_in($peer))[0] == $forge->{port};
    }
    POSIX::close($pidfd);
    return @sockets;
}

subtest 'the connection to a backend' => sub {
    $t->post('/api/generate', $big);
    my @sockets = upstream_sockets();
    ok scalar @sockets, 'kept';
    my $option = sub { unpack 'i', getsockopt $_[0], $_[1], $_[2] };

    for my $s (@sockets) {
        ok $option->($s, IPPROTO_TCP, TCP_NODELAY),
           'does not wait for an acknowledgement';
        ok $option->($s, SOL_SOCKET, SO_KEEPALIVE), 'is asked when silent';
        is join(' ', map { $option->($s, IPPROTO_TCP, $_) }
                TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT), '30 10 3',
           'after 30 s, each 10 s, three times';
    }
};


$t->done;
