package HybridStream;

# Streams as a client sees them, for tests with Hybrid.
#
#   my $s = stream($t, '/api/chat', \%body, port => $t->port(2), http => '1.0');
#
# {head}, {status}, {header} by lower-case name; {text}, the body without its
# framing; {whole}, that it came to its proper end; {times}, when each piece
# of the raw answer has come, from the start; {raw}, all of it.
#
#   ndjson(@tokens), sse(@tokens)   what a backend streams, with its end
#   chunked(@pieces)                as chunks, with the last one
#   head(TYPE, NAME => VALUE...)    of a 200

use strict;
use warnings;

use Exporter 'import';
use Hybrid ();
use Time::HiRes 'time';

our @EXPORT = qw(stream ndjson sse usage_chunk chunked head);


sub stream {
    my ($t, $path, $content, %o) = @_;
    my $body = ref $content ? Hybrid::encode($content) : $content;
    my $version = $o{http} || '1.1';
    my $s = $t->open(%o{grep { $_ eq 'port' } keys %o});
    my $start = time;
    my %r = (times => []);
    my $end = $start + ($o{timeout} || $Hybrid::PATIENCE);

    $s->send("POST $path HTTP/$version\r\nHost: gateway\r\n"
             . ($version eq '1.1' ? "Connection: close\r\n" : '')
             . ($o{headers} // '')
             . 'Content-Length: ' . length($body) . "\r\n"
             . $t->auth_lines . "\r\n$body");

    my $socket = $s->{socket};
    my $select = IO::Select->new($socket);
    my $raw = '';

    while ($select->can_read($end - time)) {
        my $n = sysread $socket, $raw, 65536, length $raw;
        last if !$n;
        push @{$r{times}}, time - $start;
        last if $o{until} && $raw =~ $o{until};
    }

    $s->close;
    return parse($raw, %r);
}


sub parse {
    my ($raw, %r) = @_;

    $r{raw} = $raw;
    ($r{head}, my $body) = split /\r\n\r\n/, $raw, 2;
    ($r{status}) = ($r{head} // '') =~ /^HTTP\/1.\d (\d+)/;
    $r{status} //= 0;
    $r{header} = { map { /^([^:]+): (.*)$/ ? (lc $1, $2) : () }
                   split /\r\n/, $r{head} // '' };
    $r{text} = $body // '';

    if (($r{header}{'transfer-encoding'} // '') eq 'chunked') {
        ($r{text}, $r{whole}) = ('', 0);

        while ($body =~ s/^([0-9a-f]+)\r\n//) {
            my $size = hex $1;

            if ($size == 0) {
                $r{whole} = $body eq "\r\n";
                last;
            }

            $r{text} .= substr $body, 0, $size, '';
            $body =~ s/^\r\n// or last;
        }
    } elsif (defined $r{header}{'content-length'}) {
        $r{whole} = length $r{text} == $r{header}{'content-length'};
    }

    return \%r;
}


sub ndjson {
    my (@tokens) = @_;
    return map({ qq({"model":"m","response":"$_","done":false}\n) } @tokens),
           qq({"model":"m","response":"","done":true,"eval_count":1}\n);
}


sub usage_chunk {
    return qq(data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,)
           . qq("completion_tokens":2,"total_tokens":3}}\n\n);
}


sub sse {
    my (@tokens) = @_;
    return map({ qq(data: {"id":"x","choices":[{"index":0,"delta":)
                 . qq({"content":"$_"},"finish_reason":null}]}\n\n) } @tokens),
           qq(data: {"id":"x","choices":[{"index":0,"delta":{},)
           . qq("finish_reason":"stop"}]}\n\n),
           "data: [DONE]\n\n";
}


sub chunked {
    return join '', map { sprintf "%x\r\n%s\r\n", length $_, $_ } @_, '';
}


sub head {
    my ($type, %more) = @_;
    return join "\r\n", 'HTTP/1.1 200 OK', "Content-Type: $type",
                map({ "$_: $more{$_}" } sort keys %more), '', '';
}


1;
