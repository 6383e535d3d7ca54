package MockRedis;

# A Redis that answers what a test wants, for what a real one does not do
# when it is told to: errors, delays, answers of another shape.
#
#   my $mock = MockRedis->new;          # "hybrid_redis $mock->{addr} ..."
#   $mock->set(EVALSHA => "-OOM too much\r\n", 40);     # RESP; after 40 ms
#   $mock->set(EVALSHA => 'usual', 40);
#   $mock->set(EVALSHA => 'never');     # and nothing behind it
#   $mock->set(EVALSHA => 'close');     # the connection
#   $mock->set(accept => 'close');      # each connection, at once
#   $mock->well;                        # forgets all that and the numbers
#   $mock->count('EVALSHA');            # or 'accept'; or 0
#
# What is not set is answered as by a Redis without any limit.  Commands of
# the test (HybridRedis::Redis's command()) go to a port of their own.

use strict;
use warnings;

use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our @ISA = ('HybridRedis::Redis');

my ($number, %answer, %delay, %count) = (0);

serve(@ARGV) if !caller;


sub new {
    my ($class) = @_;
    my $self = bless { name => 'mock' . ++$number }, $class;
    my $file = HybridRedis::dir() . "/$self->{name}.port";

    $self->{pid} = HybridRedis::spawn("redis $self->{name}", "$file.out",
        $^X, __FILE__, $file);
    HybridRedis::wait_until(sub { -s $file })
        or die 'the mock does not start: ' . HybridRedis::slurp("$file.out");

    (my $port, $self->{port}) = split ' ', HybridRedis::slurp($file);
    $self->{addr} = "127.0.0.1:$port";
    return $self;
}

sub set {
    my ($self, $command, $answer, $ms) = @_;
    return $self->command('SET', $command, $answer, $ms // 0);
}

sub well { my ($self) = @_; return $self->command('WELL') }

sub count { my ($self, $what) = @_; return $self->command('COUNT', $what) }


# -- the process

sub serve {
    my ($file) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my ($port, $control) = map { IO::Socket::INET->new(Listen => 128,
        Proto => 'tcp', LocalAddr => '127.0.0.1') or die "listen: $!" } 1, 2;
    my %open;

    open my $out, '>', "$file.new" or die "$file: $!";
    print $out $port->sockport, ' ', $control->sockport, "\n";
    close $out;
    rename "$file.new", $file or die "$file: $!";

    for (;;) {
        my $now = clock_gettime(CLOCK_MONOTONIC);
        my $ready = '';
        my ($next) = sort { $a <=> $b } $now + 1,
            map { @{ $_->{out} } ? $_->{out}[0][0] : () } values %open;

        vec($ready, fileno $_, 1) = 1 for $port, $control,
            map { $_->{socket} } values %open;
        select $ready, undef, undef, $next > $now ? $next - $now : 0;

        for my $listen ($port, $control) {
            next if !vec $ready, fileno $listen, 1;
            my $socket = $listen->accept or next;

            if ($listen == $port) {
                $count{accept}++;
                next if $answer{accept};
            }

            setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
            $open{$socket} = { socket => $socket, in => '', out => [],
                test => $listen == $control };
        }

        for my $one (values %open) {
            hear($one) if vec $ready, fileno $one->{socket}, 1;
            delete $open{ $one->{socket} } if $one->{end} || !say($one);
        }
    }
}

sub hear {
    my ($one) = @_;
    my $n = sysread $one->{socket}, $one->{in}, 65536, length $one->{in};
    return $one->{end} = 1 if !$n;

    while (my @words = command_of(\$one->{in})) {
        my $name = $one->{test} ? '' : $words[0];
        my $ms = $delay{$name} // 0;
        my $text = $answer{$name} // 'usual';

        $count{$name}++;
        $text = control(@words) if $one->{test};
        $text = usual(@words) if $text eq 'usual';
        $ms = 1e9 if $text eq 'never';
        push @{ $one->{out} }, [ clock_gettime(CLOCK_MONOTONIC) + $ms / 1000,
            $text ];
    }
    return;
}

# RESP2: the next command, without it in the buffer; nothing: not all there
sub command_of {
    my ($in) = @_;
    my ($end, @words) = (0);
    my ($many) = $$in =~ /\A\*(\d+)\r\n/ or return;
    $end = $+[0];

    for (1 .. $many) {
        pos($$in) = $end;
        $$in =~ /\G\$(\d+)\r\n/g or return;
        my $from = pos $$in;
        $end = $from + $1 + 2;
        return if $end > length $$in;
        push @words, substr $$in, $from, $1;
    }

    substr $$in, 0, $end, '';
    return @words;
}

# what is due; false when the connection is to end
sub say {
    my ($one) = @_;

    while (my $first = $one->{out}[0]) {
        return 1 if $first->[0] > clock_gettime(CLOCK_MONOTONIC);
        return 0 if $first->[1] eq 'close';
        syswrite $one->{socket}, $first->[1];
        shift @{ $one->{out} };
    }
    return 1;
}

sub usual {
    my ($name, undef, undef, $key, undef, undef, @limit) = @_;
    return "+PONG\r\n" if $name eq 'PING';
    return "*0\r\n" if $name eq 'SMEMBERS';
    return "*5\r\n:0\r\n:$limit[6]\r\n:0\r\n:1\r\n:0\r\n"
        if $name =~ /^EVAL/ && $key =~ /:limits$/;
    return "*1\r\n\$4\r\nsame\r\n" if $name =~ /^EVAL/ && $key =~ /:revoked$/;
    return ":1\r\n";
}

sub control {
    my ($what, $name, $answer, $ms) = @_;

    if ($what eq 'COUNT') {
        return ':' . ($count{$name} // 0) . "\r\n";
    }

    %answer = %delay = %count = () if $what eq 'WELL';
    ($answer{$name}, $delay{$name}) = ($answer, $ms) if $what eq 'SET';
    return "+OK\r\n";
}

1;
