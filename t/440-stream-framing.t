# Streams whose framing and pieces are odd: a length that is no more true when
# an event is taken out, clients that read slowly, answers that nginx spools,
# kept connections that die, headers that come after a heartbeat.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridStream;
use Test::More;
use Time::HiRes qw(sleep time);
use IO::Socket::INET;
use Socket;

my $t = Hybrid->new;
my $alice = $t->{as} = $t->token('alice');
my ($plain, $barrier, $beat, $buffered, $nofile) = 1 .. 5;

my $port_file = "$t->{dir}/odd_stream.port";
my $asked = "$t->{dir}/odd_stream.log";
my $pid = Hybrid::_spawn($t->{dir}, "$t->{dir}/odd_stream.out", 'python3',
                         "$Hybrid::ROOT/t/lib/odd_stream.py", $port_file,
                         $asked);
poll { -s $port_file };
my ($backend) = Hybrid::_slurp($port_file) =~ /(\d+)/;

sub server {
    my ($port, $more, $buffering) = @_;
    local $_ = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf");

    if ($buffering) {
        s/^proxy_buffering .*;/proxy_buffering on;/m or die;
        s/^(proxy_max_temp_file_size) .*;/$1 1024m;/m or die;
    }

    my $file = $t->file("proxy.$port", $_);
    return "server { listen 127.0.0.1:%PORT$port% sndbuf=16k; location / {"
           . " hybrid_access token; $more include $file; } }\n";
}

$t->start(http => server($plain, '')
    . server($barrier, 'hybrid_barrier 8k 20s;')
    . server($beat, 'hybrid_heartbeat 200ms;')
    . server($buffered, 'sendfile on;', 1) . server($nofile, 'sendfile off;', 1)
    . <<"END");
    upstream odd { zone odd 64k; server 127.0.0.1:$backend max_fails=0;
                   keepalive 32; }
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend odd { pass http://odd; probe off; }
    hybrid_route * odd;
END

my $chat = '/v1/chat/completions';

sub ask {
    my ($model, $port, %o) = @_;
    my $path = delete $o{path} || $chat;
    return stream($t, $path, { model => $model, prompt => 'x',
        stream => \1 }, port => $t->port($port), %o);
}

# one who reads nothing for a second or two, and then goes on
sub slowly {
    my ($model, $port, $path, $first) = @_;
    my $s = IO::Socket::INET->new(Proto => 'tcp', Type => SOCK_STREAM);
    setsockopt $s, SOL_SOCKET, SO_RCVBUF, pack 'i', 4096;
    connect $s, sockaddr_in($t->port($port), inet_aton('127.0.0.1')) or die;

    my $body = Hybrid::encode({ model => $model, prompt => 'x',
                                stream => \1 });
    syswrite $s, "POST $path HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
                 . $t->auth_lines . 'Content-Length: ' . length($body)
                 . "\r\n\r\n$body";
    sleep $first;

    my $raw = '';
    my $end = time + $Hybrid::PATIENCE * 2;
    my $select = IO::Select->new($s);

    while (time < $end && $select->can_read(20)) {
        sysread $s, $raw, 65536, length $raw or last;
    }

    return HybridStream::parse($raw);
}

# that each event came, once, in order, and no usage
sub complete {
    my ($r, $count, $length, $name, $usage) = @_;
    my ($n, $bad) = (0, '');

    for my $event (split /\n\n/, $r->{text}) {
        if ($event =~ /"content":"(\d{6})(A*)"/) {
            $bad ||= "event $1 in place of $n" if $1 != $n;
            $bad ||= "event $1 has " . length $2 if length($2) != $length;
            $n++;
        }
        elsif ($event !~ /^data: (?:\[DONE\]|.*"stop")/
               && !($usage && $event =~ /"usage"/))
        {
            $bad ||= "after $n: $event";
        }
    }

    is $bad, '', "$name: in order";
    is $n, $count, "$name: all of it";
    ok $r->{whole}, "$name: to the end";
    like $r->{text}, qr/\n\ndata: \[DONE\]\n\n\z/, "$name: and said so";
}


subtest 'a length' => sub {
    my $r = ask('length', $plain);
    is $r->{header}{'content-length'}, undef, 'it would not be true';
    ok $r->{whole}, 'whole';
    unlike $r->{text}, qr/usage/, 'without the usage';

    # the next answer on the same connection is not taken for the rest
    my $s = $t->open(port => $t->port($plain));
    my $body = '{"model":"length","stream":true,"messages":[]}';

    for (1, 2) {
        $s->send("POST $chat HTTP/1.1\r\nHost: x\r\n" . $t->auth_lines
                 . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
        $s->read_until(qr/(?:\r\n0\r\n\r\n.*){$_}\z/s);
    }

    is scalar(() = $s->{buffer} =~ /^HTTP\/1.1 200 /mg), 2, 'two answers';
    is scalar(() = $s->{buffer} =~ /\r\n0\r\n\r\n/g), 2, 'each with an end';

    $r = ask('noend', $plain);
    ok !$r->{whole}, 'a length, but no end: broken';
    like $r->{text}, qr/"error"/, 'which is said';
};


subtest 'a client that reads slowly' => sub {
    complete(slowly('many', $plain, $chat, 1), 6000, 600, 'unbuffered');

    # a file is not looked into
    complete(slowly('spool', $buffered, $chat, 2), 20000, 0, 'spooled', 1);
    complete(slowly('spool', $nofile, $chat, 2), 20000, 0, 'without sendfile');

    for ($buffered, $nofile) {
        my $r = slowly('lines', $_, '/api/generate', 2);
        ok $r->{whole}, 'lines: to the end';
        like $r->{text}, qr/"done":true\}\n\z/, 'and nothing after it';
    }
};


subtest 'a kept connection that dies is no stale one' => sub {
    my @held = map {
        my $s = $t->open(port => $t->port($barrier));
        my $body = '{"model":"slow","prompt":"x"}';
        $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\n" . $t->auth_lines
                 . "Connection: close\r\nContent-Length: " . length($body)
                 . "\r\n\r\n$body");
        $s;
    } 1 .. 4;

    like $_->read_until, qr/"done":true/, 'one to keep' for @held;

    my $r = ask('dies', $barrier, path => '/api/generate');
    is $r->{status}, 502, 'nobody else is there';
    is scalar(() = Hybrid::_slurp($asked) =~ /^dies$/mg), 1, 'asked once';
};


subtest 'after a heartbeat' => sub {
    my $r = ask('late', $beat);
    ok $r->{whole}, 'events, as promised';
    like $r->{text}, qr/"content":"a"/, 'passed on';

    $r = ask('json', $beat);
    ok !$r->{whole}, 'an object is no stream of events';
    like $r->{text}, qr/^data: \{"error"/m, 'an error is';
    unlike $r->{text}, qr/hello/, 'it is not passed on';

    for my $header ([ 'If-Match' => '"x"' ], [ 'If-None-Match' => '*' ],
                    [ 'If-Unmodified-Since' => 'Mon, 01 Jan 2001 00:00:00 GMT'
                    ])
    {
        my $body = '{"model":"late","stream":true}';
        my $text = $t->raw("POST $chat HTTP/1.1\r\nHost: x\r\n"
            . "$header->[0]: $header->[1]\r\nConnection: close\r\n"
            . $t->auth_lines . 'Content-Length: ' . length($body)
            . "\r\n\r\n$body", port => $t->port($beat));
        like $text, qr/\AHTTP\/1.1 200 .*"content":"a"/s, $header->[0];
    }
};


subtest 'an error that lasts until close' => sub {
    for ($plain, $buffered) {
        my $start = time;
        my $r = ask('limited', $_, timeout => 60);
        is $r->{status}, 429, 'the status';
        is $r->{text}, '{"error":{"message":"x"}}', 'the words';
        cmp_ok time - $start, '<', 50, 'no timeout is waited for';
    }
};

Hybrid::_end($pid, 'KILL');

$t->done;
