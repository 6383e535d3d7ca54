package HybridModelWorld;

# What the schedules of t/model happen in: a backend that is told what to do
# by each request and writes down when it began and ended, and clients that
# send at planned times and may leave.  All times are of one monotonic clock.
#
#   my $backend = model_backend('name');     # port, file
#   my $clients = model_clients(\@plan);     # [ at, gateway, text, id, leave ]
#   my $rows = $clients->results;            # as of HybridRedis's load
#   my $events = $backend->events;
#
# A request's X-Plan is "id msec input output stream"; X-Gateway is the name of
# the gateway and the pid of its worker.  An event is [ time, "S" or "E", id,
# gateway, pid ]: E is written before the last byte goes, and as soon as the
# gateway has closed; what has closed is seen before what comes is.

use strict;
use warnings;

use Exporter 'import';
use HybridRedis;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(MSG_PEEK MSG_DONTWAIT IPPROTO_TCP TCP_NODELAY);

our @EXPORT = qw(model_backend model_clients);


sub model_backend {
    my ($name) = @_;
    my $self = bless { name => $name, file => dir() . "/$name.events" },
        'HybridModelWorld::Backend';

    my $listen = IO::Socket::INET->new(Listen => 1024, Proto => 'tcp',
        LocalAddr => '127.0.0.1') or die "listen: $!";
    $self->{port} = $listen->sockport;

    my $pid = fork // die "fork: $!";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        eval { serve($listen, $self->{file}); 1 } or warn $@;
        POSIX::_exit(0);
    }

    HybridRedis::adopt($pid, "backend $name");
    $self->{pid} = $pid;
    return $self;
}

sub serve {
    my ($listen, $file) = @_;
    my (%open, @due);
    my $select = IO::Select->new($listen);

    open my $out, '>>', $file or die "$file: $!";
    $out->autoflush(1);
    $listen->blocking(0);

    my $event = sub {
        my ($what, $one) = @_;
        print $out join(' ', sprintf('%.6f', now()), $what, $one->{id},
            $one->{gateway}), "\n";
    };

    my $gone = sub {
        my ($one) = @_;
        $event->('E', $one) if $one->{id} && !$one->{ended}++;
        $select->remove($one->{socket});
        delete $open{ fileno $one->{socket} };
        close $one->{socket};
    };

    my $closed = sub {
        for my $one (values %open) {
            next if !$one->{id};
            my $n = recv $one->{socket}, my $byte, 1, MSG_PEEK | MSG_DONTWAIT;
            $gone->($one) if defined $n ? $byte eq '' : !$!{EAGAIN};
        }
    };

    for (;;) {
        my $next = @due ? $due[0][0] - now() : 0.5;
        my @ready = $select->can_read($next > 0 ? $next : 0);
        $closed->();

        for my $socket (@ready) {
            if ($socket == $listen) {
                while (my $new = $listen->accept) {
                    setsockopt $new, IPPROTO_TCP, TCP_NODELAY, 1;
                    $open{ fileno $new } = { socket => $new, in => '' };
                    $select->add($new);
                }
                next;
            }

            my $one = $open{ fileno($socket) // -1 } or next;
            next if $one->{socket} != $socket || $one->{id};
            if (!sysread $socket, $one->{in}, 65536, length $one->{in}) {
                $gone->($one);
                next;
            }
            begin($one) or next;
            $closed->();
            $event->('S', $one);
            print {$socket} $one->{first} if $one->{first};
            @due = sort { $a->[0] <=> $b->[0] } @due,
                [ now() + $one->{msec} / 1000, $one ];
        }

        while (@due && $due[0][0] <= now()) {
            my (undef, $one) = @{ shift @due };
            next if $one->{ended};
            $closed->();
            next if $one->{ended}++;
            $event->('E', $one);
            print { $one->{socket} } $one->{last};
            $gone->($one);
        }
    }
}

# 1 when all of the request is there
sub begin {
    my ($one) = @_;
    my ($head, $body) = $one->{in} =~ /\A(.*?\r\n)\r\n(.*)\z/s or return 0;
    my ($length) = $head =~ /^Content-Length: (\d+)/mi;
    return 0 if length $body < ($length // 0);

    my ($plan) = $head =~ /^X-Plan: (.*)\r/mi;
    my ($id, $msec, $input, $output, $stream) = split ' ',
        $plan // '? 0 1 1 0';
    ($one->{gateway}) = $head =~ /^X-Gateway: (.*)\r/mi;
    $one->{gateway} //= '? 0';
    @$one{qw(id msec)} = ($id, $msec);

    my $reply = 'HTTP/1.1 200 OK' . "\r\nConnection: close\r\nContent-Type: "
        . ($stream ? "application/x-ndjson\r\n\r\n"
            : "application/json\r\n\r\n");
    my $text = '{"model":"m","message":{"role":"assistant","content":"x"},';
    my $last = $text . '"done":true,"prompt_eval_count":' . $input
        . ",\"eval_count\":$output}\n";

    $one->{first} = $stream ? "$reply$text\"done\":false}\n" : '';
    $one->{last} = $stream ? $last : $reply . $last;
    return 1;
}


sub model_clients {
    my ($plan) = @_;
    my $file = dir() . '/clients' . ++$HybridModelWorld::count;
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        eval { send_all($file, $plan); 1 } or warn $@;
        POSIX::_exit(0);
    }

    HybridRedis::adopt($pid, 'load clients');
    return bless { pid => $pid, file => $file }, 'HybridRedis::Load';
}

sub send_all {
    my ($file, $plan) = @_;
    my @plan = sort { $a->[0] <=> $b->[0] } @$plan;
    my ($begin, %open) = (now());

    open my $out, '>', $file or die "$file: $!";

    my $end = sub {
        my ($one) = @_;
        delete $open{ fileno $one->{socket} } if $one->{socket};
        HybridRedis::record($out, $one);
    };

    while (@plan || %open) {
        while (@plan && $plan[0][0] <= now() - $begin) {
            my (undef, $gateway, $text, $id, $leave) = @{ shift @plan };
            my $one = HybridRedis::connect_to($gateway, $text, $id);
            $one->{leave} = $one->{start} + ($leave // 20);
            $one->{early} = defined $leave;
            if ($one->{socket}) { $open{ fileno $one->{socket} } = $one }
            else { $end->($one) }
        }

        my ($read, $write) = ('', '');
        for my $fd (keys %open) {
            vec($read, $fd, 1) = 1;
            vec($write, $fd, 1) = 1 if length $open{$fd}{out};
        }

        my $next = @plan ? $plan[0][0] + $begin - now() : 0.02;
        $next = $next < 0 ? 0 : $next > 0.02 ? 0.02 : $next;
        my $ready = select $read, $write, undef, $next;

        for my $fd (keys %open) {
            my $one = $open{$fd};
            if ($ready > 0) {
                HybridRedis::send_some($one)
                    if length $one->{out} && vec($write, $fd, 1);
                HybridRedis::read_some($one) if vec($read, $fd, 1);
            }
            $one->{error} //= $one->{early} ? 'left' : 'timeout'
                if now() > $one->{leave};
            $end->($one) if $one->{ended} || $one->{error};
        }
    }

    close $out;
    return;
}


package HybridModelWorld::Backend;

sub events {
    my ($self) = @_;
    return [ map { [ split / / ] } split /\n/,
        HybridRedis::slurp($self->{file}) ];
}

sub stop {
    my ($self) = @_;
    kill 'KILL', $self->{pid};
    return HybridRedis::ended($self->{pid}, $HybridRedis::PATIENCE);
}

1;
