# Streams that break at any place: what has not begun moves to the next
# candidate, what has is ended with an error in its dialect and aborted; no
# client can take a part for the whole.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;

my $t = Hybrid->new;
my ($forge, $anvil) = map { $t->backend($_, models => 'x,x1,x2,x3,lone,f',
                                        tokens => 60) } qw(forge anvil);
my $odd = HybridOdd->new($t, 'odd');
my $alice = $t->{as} = $t->token('alice');

sub server {
    my ($port, $more, %change) = @_;
    local $_ = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf");

    for my $name (keys %change) {
        s/^$name\s[^;]*;/$name $change{$name};/m or die $name;
    }

    my $file = $t->file("proxy.$port", $_);
    return "server { listen 127.0.0.1:%PORT$port%; location / {"
           . " hybrid_access token; $more include $file; } }\n";
}

my ($plain, $barrier, $hasty, $both) = 1 .. 4;
my @hasty = (proxy_read_timeout => '700ms');
my $hold = 'hybrid_barrier 8k 20s;';

$t->start(http => server($plain, '') . server($barrier, $hold)
    . server($hasty, '', @hasty) . server($both, $hold, @hasty) . <<"END");
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend anvil { pass http://$anvil->{addr}; probe off; }
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_route x odd anvil;
    hybrid_route f forge;
    hybrid_route lone odd;
    ${\ join "\n", map { "hybrid_backend odd$_ { probe off;"
                          . " pass http://$odd->{addr}; }"
                          . " hybrid_route x$_ odd$_ anvil;" } 1 .. 3}
    log_format tries '\$status \$hybrid_backends \$hybrid_reason'
                     ' \$hybrid_ttft|';
    access_log access.log tries;
END

# PATH, MODEL and the port of a server
sub ask {
    my ($path, $model, $port, %o) = @_;
    my %body = $path =~ /^.api/ ? (prompt => 'x')
               : (messages => [{ role => 'user', content => 'x' }],
                  stream => \1);
    return stream($t, $path, { model => $model, %body, %{$o{body} || {}} },
                  port => $t->port($port), %o);
}

sub by { $_[0]{header}{'x-hybrid-backend'} // '-' }
sub why { $_[0]{header}{'x-hybrid-fallback'} // '-' }

# in the dialect, at the end, on a line or an event of its own
my %error = (
    '/api/generate' => qr/^\{"error":"([^"]*)"\}\n\z/m,
    '/v1/chat/completions' => qr/(?:^|\n\n)data:[ ]
        \{"error":\{"message":"([^"]*)","type":"api_error",.*\}\}\n\n\z/x,
    '/v1/responses' => qr/(?:^|\n\n)event:[ ]error\ndata:[ ]
        \{"error":\{"message":"([^"]*)",.*\}\}\n\n\z/x,
    '/v1/messages' => qr/(?:^|\n\n)event:[ ]error\ndata:[ ]
        \{"type":"error","error":\{"type":"api_error","message":"([^"]*)"\}\}
        \n\n\z/x);

sub broken {
    my ($r, $path, $name) = @_;
    my $ok = like $r->{text}, $error{$path}, "$name: an error in the dialect";
    ok !$r->{whole}, "$name: aborted" or $ok = 0;
    diag $r->{raw} if !$ok;
}


subtest 'the matrix' => sub {
    for my $path ('/api/generate', '/v1/chat/completions', '/v1/messages') {
        $forge->clear;
        my $r = ask($path, 'f', $plain);
        ok $r->{whole}, "$path: whole";
        my $all = $r->{text};

        $forge->behave(close_after_tokens => 40);
        for my $port ($plain, $barrier) {
            $r = ask($path, 'f', $port);
            is $r->{status}, 200;
            is scalar(() = $r->{text} =~ /word\d+/g), 32, '40 tokens';
            broken($r, $path, 'closed after 40 tokens');
        }

        $forge->behave(hang_after_tokens => 20);
        for my $port ($hasty, $both) {
            $r = ask($path, 'f', $port);
            is scalar(() = $r->{text} =~ /word\d+/g), 12, '20 tokens';
            broken($r, $path, 'silent after 20 tokens');
            like $r->{text}, qr/in time/, 'it was a timeout';
        }

        ok $forge->wait(sub { $_->{active} == 0 }), 'the backend was left';

        $forge->behave(garbage_after_tokens => 10);
        $r = ask($path, 'f', $barrier);
        ok $r->{whole}, 'a malformed line is passed on';
        is scalar(() = $r->{text} =~ /word\d+/g), 52, 'and all the others';
        unlike $r->{text}, $error{$path};
    }

    my $log = $t->log('access.log');
    like $log, qr/^200 forge broken \d+\.\d{3}\|$/m, 'logged';
    like $log, qr/^200 forge backend_timeout \d+\.\d{3}\|$/m, 'logged';
    is scalar(() = $t->log('error.log') =~ /"forge" has broken off/g), 12,
       'once each';
};


my %type = ('/api/generate' => 'application/x-ndjson',
            '/v1/chat/completions' => 'text/event-stream');
my @said = (\&ndjson, \&sse);

subtest '200 and then nothing' => sub {
    for my $path (sort keys %type) {
        my $head = head($type{$path}, 'Transfer-Encoding' => 'chunked');

        for my $end ([], [{ reset => 1 }]) {
            $odd->steps({ send => $head }, @$end);
            broken(ask($path, 'x', $plain), $path, 'no barrier');

            my $r = ask($path, 'x', $barrier);
            is by($r) . why($r), 'anvilerror', 'with one: the next answers';
            ok $r->{whole}, 'all of it';

            $r = ask($path, 'lone', $barrier);
            is $r->{status}, 502, 'there is no next one';
        }

        $odd->steps({ send => $head }, { hang => 1 });
        broken(ask($path, 'x', $hasty), $path, 'silence, no barrier');

        my $r = ask($path, 'x', $both);
        is by($r) . why($r), 'anviltimeout', 'with one';

        # ended in all order, but nothing was said
        $odd->steps({ send => $head . chunked() });
        broken(ask($path, 'x', $plain), $path, 'an empty stream');
        is by(ask($path, 'x', $barrier)), 'anvil', 'and with a barrier';
    }
};


subtest '500 after the header, in the stream' => sub {
    for my $case ([ '/api/generate', qq({"error":"boom"}\n) ],
                  [ '/v1/chat/completions',
                    qq(data: {"error":{"message":"boom"}}\n\n) ])
    {
        my ($path, $error) = @$case;
        my @said = $path =~ /api/ ? ndjson(qw(a b)) : sse(qw(a b));
        my $head = head($type{$path}, 'Transfer-Encoding' => 'chunked');

        $odd->steps({ send => $head . chunked($said[0], $error) });

        for my $port ($plain, $barrier) {
            my $r = ask($path, 'x', $port);
            is $r->{text}, $said[0] . $error, 'its own words, once';
        }

        $odd->steps({ send => $head . chunked($error) });
        is ask($path, 'x', $plain)->{text}, $error, 'first, no barrier';

        my $r = ask($path, 'x', $barrier);
        is by($r) . why($r), 'anvilstream_error', 'with one: moved';
        is ask($path, 'lone', $barrier)->{text}, $error, 'nobody else';
    }

    # a header, and then something that is not what it says
    $odd->steps({ send => head('application/x-ndjson', 'Transfer-Encoding' =>
        'chunked') . "HTTP/1.1 500 Internal Server Error\r\n\r\n" });
    is by(ask('/api/generate', 'x', $barrier)), 'anvil', 'no chunk';
    my $r = ask('/api/generate', 'x', $plain);
    broken($r, '/api/generate', 'no chunk');
    is ask('/api/generate', 'lone', $barrier)->{status}, 502, 'alone';
};


# each position of an answer: by framing, dialect, and whether it is a reset
sub positions {
    my ($path, $framing, @said) = @_;
    my $body = join '', @said;
    my %more = $framing eq 'chunked' ? ('Transfer-Encoding' => 'chunked')
             : $framing eq 'length' ? ('Content-Length' => length $body) : ();
    my $head = head($type{$path}, %more);
    my $text = $head . ($framing eq 'chunked' ? chunked(@said) : $body);

    # from here on there is a token, and here all is said
    my $token = index($text, $path =~ /api/ ? 'response":"' : 'content":"');
    $token = index($text, '":"', $token) + 4;
    my $end = $path =~ /api/ ? index($text, '"eval_count":1}') + 15
              : index($text, '"finish_reason":"stop"}]}') + 25;
    my (@bad, %n);

    for my $reset (0, 1) {
        for my $at (0 .. length $text) {
            my @steps = ({ send => substr $text, 0, $at });
            push @steps, { reset => 1 } if $reset;
            $odd->steps(@steps);

            for my $port ($plain, $barrier) {
                my $r = ask($path, 'x', $port);
                my $moved = by($r) eq 'anvil';
                my $complete = $r->{whole}
                               && $r->{text} !~ $error{$path};
                my $from = $port == $plain ? length $head : $token;

                # what a reset leaves of what was sent is not known
                my $expect = $at < $from ? 'moved'
                    : $at == length $text
                      || ($framing eq 'close' && $at >= $end) ? 'complete'
                    : 'broken';
                my $got = $moved && $complete ? 'moved'
                          : $complete ? 'complete'
                          : !$moved && $r->{status} == 200 ? 'broken'
                          : "bad $r->{status}";

                if ($got eq 'complete' && $r->{text} !~ /^\Q$body\E?\n*\z/
                    && $r->{text} ne substr $body, 0, length $r->{text})
                {
                    $got = 'false';
                }

                $got = 'no error' if $got eq 'broken'
                    && $r->{text} !~ $error{$path}
                    && index($r->{text}, $path =~ /api/ ? '"done":true,'
                             : '[DONE]') < 0;
                $n{$got}++;

                my $ok = $reset ? $got =~ /^(?:moved|broken)$/
                                  || $got eq $expect
                                : $got eq $expect;
                push @bad, "at $at, reset $reset, server $port: $got, not "
                           . "$expect" if !$ok;
            }
        }
    }

    is "@bad[0 .. ($#bad < 3 ? $#bad : 3)]", '', "$path, $framing: "
        . join ', ', map { "$n{$_} $_" } sort keys %n;
}

subtest 'cut at every byte' => sub {
    positions('/api/generate', $_, ndjson('a')) for qw(chunked length close);
    positions('/v1/chat/completions', 'chunked', sse('a'));
};


subtest 'what goes on until the end' => sub {
    my $head = head('text/event-stream', 'Transfer-Encoding' => 'chunked');
    my $path = '/v1/chat/completions';
    my @said = sse(qw(a b));

    # the reason why it ends, and then no [DONE]: there are such servers
    pop @said;
    $odd->steps({ send => $head . chunked(@said) });
    my $r = ask($path, 'x', $plain);
    is $r->{text}, join('', @said), 'no [DONE]';
    ok $r->{whole}, 'is an end';

    # an event without its end: the error is one of its own
    for my $part ("data: {\"cho", "data: {}\n") {
        $odd->steps({ send => $head . chunked($said[0], $part) });
        broken(ask($path, 'x', $plain), $path, 'half of an event');
    }

    $path = '/v1/responses';
    $odd->steps({ send => $head . chunked(qq(event: response.created\n)
        . qq(data: {"type":"response.created"}\n\n)) });
    broken(ask($path, 'x', $plain), $path, 'responses');

    # 408 and a 429 that is about money
    for my $status (408, 429) {
        $odd->answer($status, '{"error":"wait"}',
                     'Content-Type' => 'application/json');
        $r = ask('/api/generate', 'x', $plain);
        is by($r) . why($r), "anvilhttp_$status", "status $status";
        $r = ask('/api/generate', 'lone', $plain);
        is $r->{status} . $r->{text}, "$status\{\"error\":\"wait\"}", 'alone';
    }

    my $body = '{"error":{"message":"pay","code":"insufficient_quota"}}';
    my $n = 0;
    is scalar(() = $t->log('error.log') =~ /no quota/g), 0, 'not yet';

    for my $more (sub { "Content-Length: $_[1]\r\n\r\n$_[0]" },
                  sub { "Transfer-Encoding: chunked\r\n\r\n"
                        . chunked($_[0] =~ /(.{20})(.*)/) },
                  sub { "\r\n$_[0]" })
    {
        my $text = $more->($body, length $body);
        my ($first, $rest) = "HTTP/1.1 429 X\r\n$text"
                             =~ /\A(.*?\r\n\r\n.{25})(.*)\z/s;
        $odd->steps({ send => $first, pause => 0.2 },
                    { send => $rest });
        my $model = 'x' . ++$n;
        $r = ask($path, $model, $plain);
        is by($r) . why($r), 'anvilhttp_429', 'no money: moved';
        is scalar(() = $t->log('error.log') =~ /no quota/g), $n, 'noticed';
        is why(ask($path, $model, $plain)), 'quota', 'not asked again';
    }
};


subtest 'the client leaves' => sub {
    $forge->clear;
    $forge->behave(hang_after_tokens => 5);
    my $r = ask('/api/generate', 'f', $plain, until => qr/word/,
                timeout => 5);
    ok $forge->wait(sub { $_->{active} == 0 }), 'so does the gateway';
};

$t->done;
