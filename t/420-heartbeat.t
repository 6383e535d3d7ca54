# Padding while nothing is said: in each dialect, what it commits to, and that
# an answer, or an error, still comes out right after it.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;

my $t = Hybrid->new;
my %slow = (models => 'x,f,e,lone', tokens => 5);
my $forge = $t->backend('forge', %slow);
my $anvil = $t->backend('anvil', %slow);
my $odd = HybridOdd->new($t, 'odd');
my $alice = $t->{as} = $t->token('alice');

my ($beat, $both, $old, $gzip) = 1 .. 4;

my $proxy = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf")
    =~ s/^(proxy_read_timeout) .*;/$1 2s;/mr;

sub server {
    my ($port, $more, $http, $buffering) = @_;
    my $text = $buffering ? $proxy =~ s/^(proxy_buffering) .*;/$1 on;/mr
                          : $proxy;
    my $file = $t->file("proxy.$port", $text);
    return "server { listen 127.0.0.1:%PORT$port%; " . ($http // '')
           . "location / { hybrid_access token; hybrid_heartbeat 200ms;"
           . " $more include $file; } }\n";
}

$t->start(http => server($beat, '') . server($both, 'hybrid_barrier 8k 20s;')
    . server($old, '', '', 'on')
    . server($gzip, 'gzip on; gzip_types *; gzip_min_length 0;'
             . ' error_page 502 504 /page;',
             'location = /page { return 200 page; }') . <<"END");
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend anvil { pass http://$anvil->{addr}; probe off; }
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_route f forge;
    hybrid_route e odd anvil;
    hybrid_route x odd anvil;
    hybrid_route lone odd;
    log_format tries '\$status \$hybrid_backends \$hybrid_reason|';
    access_log access.log tries;
END

my %path = (
    lines => '/api/generate', chat => '/v1/chat/completions',
    messages => '/v1/messages', whole => '/v1/chat/completions');
my %pad = (lines => ' ', whole => ' ', chat => ":\n\n",
           messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n");
my %type = (lines => 'application/x-ndjson', whole => 'application/json',
            chat => 'text/event-stream', messages => 'text/event-stream');

sub ask {
    my ($kind, $model, $port, %o) = @_;
    my %body = $kind eq 'lines' ? (prompt => 'x')
             : (messages => [{ role => 'user', content => 'x' }],
                $kind eq 'whole' ? () : (stream => \1));
    return stream($t, $path{$kind}, { model => $model, %body }, %o,
                  port => $t->port($port));
}

# cuts the padding off the front of a text and tells how many there were
sub padding {
    my ($kind, $text) = @_;
    my $n = () = $$text =~ /\G\Q$pad{$kind}\E/g;
    substr $$text, 0, $n * length $pad{$kind}, '';
    return $n;
}


subtest 'a slow first token' => sub {
    for my $kind (sort keys %path) {
        for my $port ($beat, $both, $old) {
            $forge->behave(delay_ms => 0);
            my $fast = ask($kind, 'f', $port);
            my $text = $fast->{text};
            is padding($kind, \$text), 0, "$kind: no padding";
            is $fast->{header}{'x-hybrid-backend'}, 'forge';

            $forge->behave(delay_ms => 900);
            my $r = ask($kind, 'f', $port);
            is $r->{status}, 200, "$kind, server $port, slow";
            is $r->{header}{'content-type'}, $type{$kind}, 'its type';
            is scalar(() = $r->{raw} =~ /HTTP\/1.1/g), 1, 'one header';
            ok $r->{whole}, 'whole';
            cmp_ok padding($kind, \$r->{text}), '>=', 2, 'padded';
            cmp_ok $r->{times}[0], '<', 0.8, 'from the start';

            s/"(created|id|\w+_duration|created_at)":("[^"]*"|\d+)//g
                for $r->{text}, $text;
            is $r->{text}, $text, 'the answer is the same';
        }
    }
};


subtest 'moved, after padding' => sub {
    for my $kind (qw(lines chat messages)) {
        for my $fault ({ send => "HTTP/1.1 503 X\r\nContent-Length: 2"
                                 . "\r\n\r\n{}" },
                       { reset => 1 })
        {
            $odd->steps({ pause => 0.6 }, $fault);
            my $r = ask($kind, 'x', $beat);
            ok $r->{whole}, "$kind: whole";
            cmp_ok padding($kind, \$r->{text}), '>=', 1, 'padded';
            like $r->{text}, qr/Hello.*anvil/s, 'the other one answers';
        }

        # the barrier held it, and then it died
        $odd->steps({ send => head($type{$kind}), pause => 0.6 },
                    { reset => 1 });
        my $r = ask($kind, 'x', $both);
        ok $r->{whole}, 'barrier and heartbeat';
        cmp_ok padding($kind, \$r->{text}), '>=', 1, 'padded';
        like $r->{text}, qr/Hello.*anvil/s, 'the other one answers';
    }

    like $t->wait_log('access.log', qr/^200 odd,anvil http_503\|$/m), qr/503/,
         'in the log';
};


# the text after the padding, by kind
my $text = 'the backend gave no answer';
my %error = (lines => qq({"error":"$text"}\n),
    whole => qq({"error":{"message":"$text","type":"api_error","param":null,)
             . qq("code":"backend_error"}}\n),
    messages => qq(event: error\ndata: {"type":"error","error":{"type":)
                . qq("api_error","message":"$text"}}\n\n));
$error{chat} = "data: $error{whole}\n";

subtest 'failures, after padding' => sub {
    for my $kind (sort keys %path) {
        $odd->steps({ pause => 0.5 }, { reset => 1 });
        my $r = ask($kind, 'lone', $beat);
        is $r->{status}, 200, "$kind: nobody answers";
        cmp_ok padding($kind, \$r->{text}), '>=', 1, 'padded';
        is $r->{text}, $error{$kind}, 'the error';
        ok !$r->{whole}, 'aborted';

        # no error page in the middle of it
        $r = ask($kind, 'lone', $gzip);
        is padding($kind, \$r->{text}) > 0 && $r->{text}, $error{$kind},
           'where there is an error_page';

        $odd->steps({ pause => 0.5 }, { send => HybridOdd::text(400,
            qq({"error":\n "no such option"}\n), 'Content-Length' => 29,
            'Content-Type' => 'application/json; charset=utf-8') });
        $r = ask($kind, 'lone', $beat);
        padding($kind, \$r->{text});
        is $r->{text}, $kind eq 'whole' ? qq({"error":\n "no such option"}\n\n)
            : $kind eq 'lines' ? qq({"error":  "no such option"} \n)
            : ($kind eq 'messages' ? "event: error\n" : '')
              . qq(data: {"error":  "no such option"} \n\n), 'its own words';
        ok !$r->{whole}, 'aborted';

        $odd->steps({ pause => 0.5 }, { send => HybridOdd::text(502,
            '<html>', 'Content-Length' => 6, 'Content-Type' => 'text/html') });
        $r = ask($kind, 'lone', $beat);
        padding($kind, \$r->{text});
        is $r->{text}, $error{$kind}, 'a page of a tunnel';

        # the header, and then it breaks
        $odd->steps({ pause => 0.5, send => head($type{$kind},
            'Transfer-Encoding' => 'chunked') });
        $r = ask($kind, 'lone', $beat);
        padding($kind, \$r->{text});
        ok !$r->{whole}, 'nothing after its header';
        like $r->{text}, qr/broke off/ if $kind ne 'whole';
    }

    $odd->steps({ hang => 1 });
    my $r = ask('lines', 'lone', $beat);
    padding('lines', \$r->{text});
    is $r->{text}, qq({"error":"the backend did not answer in time"}\n),
       'a timeout';
};


subtest 'between tokens' => sub {
    my @lines = ndjson(qw(a b));
    my @events = sse(qw(a b));

    for my $case ([ 'lines', @lines ], [ 'chat', @events ]) {
        my ($kind, @said) = @$case;
        my $text = join '', @said;
        my $half = length($said[0]) + 9;
        my $head = head($type{$kind});

        $odd->steps({ send => $head . $said[0], pause => 0.9 },
                    { send => substr $text, length $said[0] });
        my $r = ask($kind, 'lone', $beat);
        my $n = $r->{text} =~ s/\A(\Q$said[0]\E)((?:\Q$pad{$kind}\E)+)/$1/
                ? length($2) / length $pad{$kind} : 0;
        cmp_ok $n, '>=', 2, "$kind: padded";
        is $r->{text}, $text, 'the rest is the same';

        # not in the middle of a line; an event waits until it is whole
        $odd->steps({ send => $head . substr($text, 0, $half), pause => 0.9 },
                    { send => substr $text, $half });
        $r = ask($kind, 'lone', $beat);
        is $r->{text}, $text, 'nothing within a line';
        ok $r->{whole}, 'whole';
    }
};


subtest 'clients' => sub {
    $forge->behave(delay_ms => 700);

    my $r = ask('lines', 'f', $beat, http => '1.0');
    is $r->{header}{'transfer-encoding'}, undef, 'HTTP/1.0: not chunked';
    cmp_ok padding('lines', \$r->{text}), '>=', 1, 'padded';
    like $r->{text}, qr/"done":true.*\}\n\z/, 'all of it';

    # who leaves while it is padded
    $odd->clear;
    $odd->steps({ hang => 1 });
    $r = ask('lines', 'lone', $beat, until => qr/\r\n\r\n/);
    is $r->{status}, 200, 'padded';
    like $t->wait_log('access.log', qr/^200 odd -\|/m) // '', qr/odd -/,
         'the gateway leaves, too';

    # gzip buffers what it is not told to flush
    my $zipped = stream($t, '/api/generate', '{"model":"f","prompt":"x"}',
        port => $t->port($gzip), headers => "Accept-Encoding: gzip\r\n");
    is $zipped->{header}{'content-encoding'}, 'gzip', 'gzip';
    cmp_ok $zipped->{times}[0], '<', 0.6, 'at once';
    ok $zipped->{whole}, 'whole' or diag $zipped->{raw};

    # a worker that exits goes on with what it has
    $odd->steps({ pause => 1.2 }, { send => head('application/x-ndjson')
        . join '', ndjson('a') });
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        my $r = ask('lines', 'lone', $beat);
        my $n = padding('lines', \$r->{text});
        POSIX::_exit($n >= 4 && $r->{text} =~ /"done":true/ ? 0 : 1);
    }

    select undef, undef, undef, 0.4;
    ok $t->reload, 'reloaded';
    waitpid $pid, 0;
    is $?, 0, 'padded to its end';
};

$t->done;
