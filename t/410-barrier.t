# hybrid_barrier: a stream is held until its first token, a size or a time;
# whatever lets it go, and wherever the bytes are cut, the client gets all of
# them once.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use POSIX ();
use Test::More;
use Time::HiRes 'time';

my $t = Hybrid->new;
my $ca = $t->ca('ca');
my $cert = $t->cert($ca, 'odd.test');
my $anvil = $t->backend('anvil', models => 'x,s,two', tokens => 60);
my $odd = HybridOdd->new($t, 'odd');
my $other = HybridOdd->new($t, 'other');
my $sealed = HybridOdd->new($t, 'sealed', tls => $cert);
my $alice = $t->{as} = $t->token('alice');

my ($held, $short, $buffered, $small, $h2, $both, $hasty) = 1 .. 7;

sub server {
    my ($port, $more, %change) = @_;
    my $http = delete $change{listen} // '';
    local $_ = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf");
    my $size = delete $change{proxy_buffer_size};

    $change{proxy_ssl_trusted_certificate} = $ca->{cert};

    for my $name (keys %change) {
        s/^$name\s[^;]*;/$name $change{$name};/m or die $name;
    }

    $_ .= "proxy_buffer_size $size;\n" if $size;
    my $file = $t->file("proxy.$port", $_);
    return "server { listen 127.0.0.1:%PORT$port%$http; location / {"
           . " hybrid_access token; $more include $file; } }\n";
}

my $far = 'hybrid_barrier 2k 60s;';
my $soon = 'hybrid_barrier 64k 50ms;';

$t->start(http => server($held, $far) . server($short, $soon)
    . server($buffered, $soon, proxy_buffering => 'on')
    . server($small, $far, proxy_buffer_size => 1024)
    . server($h2, $far, listen => ' http2')
    . server($both, $soon . 'hybrid_heartbeat 200ms;', listen => ' http2')
    . server($hasty, 'hybrid_barrier 2k 20s;', proxy_read_timeout => '1s')
    . <<"END");
    hybrid_client alice { $alice->{line} models *; }
    upstream odd { server $odd->{addr}; keepalive 4; }
    hybrid_backend odd   { pass http://odd; probe off; }
    hybrid_backend spare { pass http://$other->{addr}; probe off; }
    hybrid_backend anvil { pass http://$anvil->{addr}; probe off; }
    upstream sealed { zone sealed 64k; server $sealed->{addr}; }
    hybrid_backend sealed { pass https://sealed; host odd.test; probe off; }
    hybrid_route x odd anvil;
    hybrid_route s sealed anvil;
    hybrid_route lone odd;
    hybrid_route two odd spare anvil;
    log_format tries '\$status \$hybrid_backends \$hybrid_reason|';
    access_log access.log tries;
END

my $path = '/api/generate';

sub ask {
    my ($model, $port, %o) = @_;
    return stream($t, $o{path} // $path, { model => $model, prompt => 'x',
                               %{$o{body} || {}} },
                  port => $t->port($port), %o);
}

sub by { $_[0]{header}{'x-hybrid-backend'} // '-' }

my $chunks = head('application/x-ndjson', 'Transfer-Encoding' => 'chunked');
my $close = head('application/x-ndjson');

# lines without a token, of 100 bytes
my $nothing = sprintf "%-99s\n", '{"model":"m","response":"","done":false}';
my $lines = sub { my $text = $nothing x $_[0]; qr/\r\n\r\n\Q$text\E\z/ };
my @said = ndjson(qw(a b));
my $said = join '', @said;

sub all_of {
    my ($r, $text, $name) = @_;
    my $ok = is $r->{text}, $text, $name;
    ok $r->{whole}, "$name: its end" or $ok = 0 if $r->{status} == 200
        && exists $r->{whole};
    diag $r->{raw} if !$ok;
}


for my $case ([ 'HTTP', $odd, 'x', 'lone' ], [ 'TLS', $sealed, 's', 's' ]) {
    my ($what, $server, $model, $alone) = @$case;

    subtest "what lets it go: $what" => sub {

        # the limits are a minute away: nothing but the token does it
        $server->steps({ send => "$close$nothing", pause => 0.5 },
                       { send => $said[0] }, { hang => 1 });
        my $r = ask($model, $held, until => qr/"response":"a".*\n/);
        is by($r), $server == $odd ? 'odd' : 'sealed', 'the first one';
        is $r->{text}, $nothing . $said[0], 'a token';
        cmp_ok $r->{times}[0], '>=', 0.5, 'not before';

        $server->steps({ send => $close . $nothing x 10, pause => 0.5 },
                       { send => $nothing x 11 }, { hang => 1 });
        $r = ask($model, $held, http => '1.0', until => $lines->(21));
        is $r->{text}, $nothing x 21, 'the size';
        cmp_ok $r->{times}[0], '>=', 0.5, 'not before';

        # more than the size, in one piece
        $server->steps({ send => $close . $nothing x 300 }, { hang => 1 });
        $r = ask($model, $held, http => '1.0', until => $lines->(300));
        is $r->{text}, $nothing x 300, 'much more than the size';

        # and the time, with the byte that was kept
        for my $text ('', $nothing, $nothing x 2 . '{"mod') {
            $server->steps({ send => "$close$text" }, { hang => 1 });
            $r = ask($model, $short, http => '1.0',
                     until => qr/\r\n\r\n\Q$text\E\z/);
            is $r->{text}, $text, 'the time, after ' . length $text;
            cmp_ok $r->{times}[0], '>=', 0.05, 'not before';
        }

        # what was let go stays with this one
        for my $port ($short, $held) {
            my $begin = $port == $short ? $nothing : $nothing x 21;
            $server->steps({ send => "$close$begin", pause => 0.5 },
                           { reset => 1 });
            $r = ask($model, $port);
            is by($r), $server == $odd ? 'odd' : 'sealed', 'let go';
            like $r->{text}, qr/^\Q$begin\E\{"error":"[^"]*"\}\n\z/,
                'an error after it';
        }

        # and what was not goes on elsewhere
        for my $end ([{ pause => 0.3 }], [{ pause => 0.3 }, { reset => 1 }],
                     [{ send => '{"error":"no"}' . "\n" }, { hang => 1 }])
        {
            $server->steps({ send => "$close$nothing" }, @$end);
            $r = ask($model, $held);
            is by($r), 'anvil', 'held, and elsewhere';
            ok $r->{whole}, 'whole';
            unlike $r->{text}, qr/"m"/, 'nothing of the first';
        }
    };
}


# pauses at each place: with the time over, the byte that is kept is given
# back alone, and is one of the header, of a chunk's size or of a line
subtest 'cut at every byte' => sub {
    my @lines = ('{"response":""}'. "\n", ndjson('a'));
    my $body = join '', @lines;
    my $text = $chunks . chunked(@lines);

    for my $port ($short, $buffered, $held) {
        my @bad;

        for my $at (length($chunks) - 5 .. length($text) - 1) {
            next if $port != $short && $at % 4;
            $odd->steps({ send => substr($text, 0, $at),
                          pause => 0.1 }, { send => substr $text, $at });
            my $r = ask('lone', $port);
            push @bad, $at if $r->{text} ne $body || !$r->{whole};
        }

        is "@bad", '', "server $port";
    }
};


subtest 'byte by byte' => sub {
    my $body = qq({"response":""}\n{"response":"a"}\n{"done":true}\n);
    my $drip = { pause => 0.02 };

    for my $port ($held, $short, $buffered) {
        $odd->steps({ drip => $chunks . chunked($body), %$drip });
        all_of(ask('lone', $port), $body, "server $port");
    }

    $sealed->steps({ drip => $close . $body, %$drip });
    all_of(ask('s', $short), $body, 'TLS');
};


subtest 'others' => sub {
    # an answer that is no stream, or was not asked to be one
    for my $case ([ 'application/json', {} ],
                  [ 'application/x-ndjson', { stream => \0 } ],
                  [ 'text/plain', {} ])
    {
        my ($type, $more) = @$case;
        $odd->steps({ send => head($type) . "half" }, { hang => 1 });
        my $r = ask('lone', $held, until => qr/half/, body => $more);
        is $r->{text}, 'half', "at once: $type, " . Hybrid::encode($more);
    }

    # nothing is expected after these
    for my $said ($said[-1], '') {
        $odd->steps({ send => head('application/x-ndjson', 'Content-Length'
                                   => length $said) . $said }, { hang => 1 });
        all_of(ask('lone', $held), $said, 'an answer without a token');
    }

    # a stream without a token that says why it ends, and no more
    my (undef, $finish) = sse('a');
    $odd->steps({ send => head('text/event-stream') . $finish });
    my $r = ask('x', $held, path => '/v1/chat/completions',
                body => { stream => \1 });
    is by($r), 'odd', 'a reason to end';
    is $r->{text}, $finish, 'is one';

    # an error without a length, its end seen while it is held
    $odd->steps({ send => "HTTP/1.1 429 X\r\nContent-Type: text/plain\r\n\r\n"
                  . "wait", pause => 0.3 });
    for my $port ($held, $buffered) {
        my $start = time;
        $r = ask('lone', $port, timeout => 20);
        is $r->{status} . $r->{text}, '429wait', "server $port: an error";
        cmp_ok time - $start, '<', 15, 'and its end';
    }
};


subtest 'a second one that is held' => sub {
    $odd->steps({ send => "$chunks$nothing" }, { pause => 0.2 });
    $other->steps({ send => $chunks . sprintf("%x\r\n", length $said),
                    pause => 0.2 }, { send => $said, pause => 0.2 },
                  { send => "\r\n0\r\n\r\n" });
    my $r = ask('two', $held);
    is by($r), 'spare', 'the second one';
    all_of($r, $said, 'all of it');

    $odd->steps({ send => "$close$nothing" }, { hang => 1 });
    $other->steps({ send => "$close$nothing" }, { hang => 1 });
    $r = ask('two', $hasty);
    is by($r), 'anvil', 'silence of both';
    ok $r->{whole}, 'whole';
};


subtest 'connections that are kept' => sub {
    $odd->clear;
    my $body = $nothing . $said;
    my $text = chunked($nothing, $said);

    for my $port ($held, $short, $small, $held) {
        $odd->steps({ send => $chunks . substr($text, 0, 110), pause => 0.2 },
                    { send => substr $text, 110 }, { again => 1 });
        all_of(ask('lone', $port), $body, "server $port");
    }

    is $odd->connections, 1, 'one for all';
    $odd->steps({ send => $close, pause => 0.1 });
    ask('lone', $held);
};


subtest 'a small buffer' => sub {
    my $big = 'HTTP/1.1 200 OK' . "\r\nContent-Type: application/x-ndjson\r\n";

    for my $size (800, 1500, 2700) {
        my $head = $big . 'X-Big: ' . 'b' x $size . "\r\n\r\n";
        for my $cut (length($head) - 1, length $head, length($head) + 5) {
            my $text = $head . $nothing x 30 . $said;
            $odd->steps({ send => substr($text, 0, $cut), pause => 0.1 },
                        { send => substr $text, $cut });
            all_of(ask('lone', $small), $nothing x 30 . $said,
                   "a header of $size, cut at $cut");
        }
    }

    $odd->steps({ send => $big . 'X-Big: ' . 'b' x 4000 . "\r\n\r\n$said" });
    is ask('lone', $small)->{status}, 502, 'too big';
};


subtest 'who leaves' => sub {
    for my $server ([ $odd, 'lone' ], [ $sealed, 's' ]) {
        $server->[0]->steps({ send => "$close$nothing" }, { left => 1 });
        my $r = ask($server->[1], $held, timeout => 0.5);
        is $r->{raw}, '', 'it was held';
        ok poll { $server->[0]->left == 1 }, 'the gateway leaves, too';
    }

    like $t->wait_log('access.log', qr/^499 (?:odd|sealed) /m, 2) // '',
         qr/^499 odd/m, 'logged';

    # a worker that exits while it holds
    for my $port ($held, $short) {
        $odd->clear;
        $odd->steps({ send => "$close$nothing", pause => 1.5 },
                    { send => $said });
        my $pid = fork // die "fork: $!";

        if (!$pid) {
            my $r = ask('lone', $port);
            POSIX::_exit($r->{text} eq $nothing . $said ? 0 : 1);
        }

        ok poll { $odd->requests == 1 }, 'asked';
        ok $t->reload, 'reloaded';
        waitpid $pid, 0;
        is $?, 0, 'a worker that exits ends what it has begun';
    }
};


subtest 'HTTP/2' => sub {
    plan(skip_all => 'no curl with HTTP/2')
        if `curl --version 2>&1` !~ /\bHTTP2\b/;

    my $curl = sub {
        my ($port) = @_;
        my $out = $t->file('h2.out', '');
        my $code = system 'curl', '-sN', '--noproxy', '*', '-m', 30, '-o',
            $out, '--http2-prior-knowledge', '-H',
            "Authorization: $alice->{bearer}", '-d',
            '{"model":"lone","prompt":"x"}',
            'http://127.0.0.1:' . $t->port($port) . $path;
        my $text = Hybrid::_slurp($out);
        my $n = () = $text =~ s/^( +)(?=\{)//mg;
        return ($code >> 8, $text, $n);
    };

    my @whole = ({ send => "$close$nothing", pause => 0.7 },
                 { send => $said });
    $odd->steps(@whole);
    for my $port ($h2, $both) {
        my ($code, $text) = $curl->($port);
        is "$code|$text", "0|$nothing$said", "server $port";
    }

    $odd->steps({ pause => 0.7 }, @whole);
    my ($code, $text, $padded) = $curl->($both);
    cmp_ok $padded, '>=', 1, 'heartbeats';
    is "$code|$text", "0|$nothing$said", 'and all of it';

    # what came before a stream error curl may drop
    $odd->steps({ send => "$close$said[0]", pause => 0.3 });
    for my $port ($h2, $both) {
        ($code, $text) = $curl->($port);
        is $code, 92, 'broken: a stream error';
        like $text, qr/^\Q$said[0]\E/, 'after what it had said';
    }

    $odd->steps({ pause => 0.7 }, { send => "HTTP/1.1 500 X\r\n"
                  . "Content-Type: application/json\r\n\r\n{\"error\":1}\n" });
    is((($curl->($both))[0]), 92, 'an error after heartbeats');
};

$t->done;
