# The request body: what is read as the model, what is refused, and that the
# backend gets the very bytes that were sent, however they came.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm,m1,big');
my $alice = $t->{as} = $t->token('alice');

my $proxy = "location / { hybrid_access token; include %PROXY%; }";

$t->start(
    # less than the shipped 64m, to be exceeded cheaply
    proxy => sub { s/client_max_body_size 64m/client_max_body_size 6m/ or die;
                   s/^client_body_buffer_size.*//m },
    http => <<"END");
    hybrid_client alice { $alice->{line} models m* big*; }
    upstream forge { server $forge->{addr}; keepalive 4; }
    hybrid_backend forge { pass http://forge; models m* big*; }
    hybrid_route * forge;
    client_body_timeout 60s;

    server { listen 127.0.0.1:%PORT1%;  client_body_buffer_size 4m;  $proxy }
    server { listen 127.0.0.1:%PORT2%;  client_body_buffer_size 1k;  $proxy }
    server { listen 127.0.0.1:%PORT3% http2;
             client_body_buffer_size 4m;  $proxy }
    server { listen 127.0.0.1:%PORT4% http2;
             client_body_buffer_size 1k;  $proxy }
END

my @servers = (1, 2);

# bodies that arrived at the backend: "size sha256" of the last one
sub arrived {
    my $r = $forge->last;
    return "$r->{body_length} $r->{body_sha256}";
}

sub sent { return length($_[0]) . ' ' . Hybrid::sha256($_[0]) }
sub asked { return $forge->stats->{requests} }

sub head {
    my ($path, @lines) = @_;
    return join "\r\n", "POST $path HTTP/1.1", 'Host: gateway', @lines,
                        $t->auth_lines . "\r\n";
}

sub chunked {
    my ($size, $body) = @_;
    return map { sprintf "%x\r\n%s\r\n", length, $_ }
           unpack "(a$size)*", $body;
}


subtest 'accepted, and passed on as it is' => sub {
    my $deep = ('[' x 98) . ('{"model":"x"}') . (']' x 98);
    my @many = map { qq("key$_":"model") } 1 .. 5000;

    my @accepted = (
        [ 'the only key' => '{"model":"m"}' ],
        [ 'first' => '{"model":"m","prompt":"p","stream":false}' ],
        [ 'last' => '{"prompt":"p","stream":false,"model":"m"}' ],
        [ 'in the middle' => '{"prompt":"p","model":"m","stream":false}' ],
        [ 'white space everywhere'
          => " \r\n\t{ \"model\"\t:\n\"m\" , \"stream\" : false }\r\n\t " ],
        [ 'escapes in the name' => '{"model":"\u006d1"}' ],
        [ 'upper case, a tag, a namespace'
          => '{"model":"registry.ollama.ai/Library/M:LATEST"}' ],
        [ 'as another object\'s key'
          => '{"options":{"model":"x","MODEL":"y"},"model":"m"}' ],
        [ 'inside of a list' => '{"messages":[{"model":1},{"model":2}],'
          . '"model":"m"}' ],
        [ 'inside of a string'
          => '{"prompt":"\"model\":\"x\",","model":"m"}' ],
        [ 'behind a backslash'
          => '{"prompt":"\\\\","model":"m","suffix":"\\\\\""}' ],
        [ 'keys that are not it' => '{"mo_del":"x","model ":"x","Models":"x",'
          . '"":"x","mode":"x","model\u0000":"x","model":"m"}' ],
        [ 'UTF-8' => "{\"prompt\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\","
          . '"model":"m"}' ],
        [ 'escapes' => '{"prompt":"\u00e9\ud83d\ude00\n\t\/\u0000",'
          . '"model":"m"}' ],
        [ 'numbers' => '{"a":[0,-0,1.5,1e400,-1E-5,123456789012345678901234],'
          . '"model":"m"}' ],
        [ 'words' => '{"a":[true,false,null],"b":{},"c":[],"model":"m"}' ],
        [ 'depth 100' => qq({"prompt":$deep,"model":"m"}) ],
        [ '5000 keys' => '{' . join(',', @many) . ',"model":"m"}' ],
    );

    for my $case (@accepted) {
        my ($name, $body) = @$case;

        for my $server (@servers) {
            my $r = $t->post('/api/chat', $body, port => $t->port($server));
            is $r->{status}, 200, $name or diag $r->{content};
            is arrived(), sent($body), "$name: the same bytes";
        }
    }
};


my %long = ('a name of 257 bytes' => 'm' x 257,
            'a name of 70000 bytes' => 'm' x 70000);

my @refused = (
    [ 'no bytes' => '', 'empty' ],
    [ 'only white space' => " \r\n\t " ],
    [ 'no model' => '{}' ],
    [ 'no model but others' => '{"prompt":"model"}' ],
    [ 'null' => '{"model":null}' ],
    [ 'an empty name' => '{"model":""}' ],
    [ 'a number' => '{"model":1}' ],
    [ 'true' => '{"model":true}' ],
    [ 'a list' => '{"model":["m"]}' ],
    [ 'an object' => '{"model":{"name":"m"}}' ],

    [ 'the key twice' => '{"model":"m","model":"m"}' ],
    [ 'the key twice, far apart'
      => '{"model":"m","prompt":"' . ('x' x 300_000) . '","model":"m1"}' ],
    [ 'null after it' => '{"model":"m","model":null}' ],
    [ 'null before it' => '{"model":null,"model":"m"}' ],
    [ 'upper case' => '{"MODEL":"m"}' ],
    [ 'title case' => '{"Model":"m"}' ],
    [ 'upper case after it' => '{"model":"m","MODEL":"m1"}' ],
    [ 'upper case before it' => '{"Model":"m1","model":"m"}' ],
    [ 'an escaped key after it' => '{"model":"m","\u006dodel":"m1"}' ],
    [ 'an escaped key in upper case' => '{"model":"m","\u004dODEL":"m1"}' ],
    [ 'an escaped key before it' => '{"mod\u0065l":"m1","model":"m"}' ],
    [ 'keep_alive with a Kelvin sign'
      => '{"model":"m","\u212aeep_alive":0}' ],
    [ 'keep_alive with a Kelvin sign in UTF-8'
      => "{\"model\":\"m\",\"\xe2\x84\xaaeep_alive\":0}" ],
    [ 'Keep_alive' => '{"model":"m","Keep_alive":0}' ],
    [ 'source with a long s' => '{"model":"m","\u017fource":"x"}' ],
    [ 'a Cyrillic letter is another key' => "{\"m\xd0\xbedel\":\"m\"}" ],

    [ 'a list of objects' => '[{"model":"m"}]' ],
    [ 'an empty list' => '[]' ],
    [ 'a top-level null' => 'null' ],
    [ 'a top-level string' => '"m"' ],
    [ 'a top-level number' => '1' ],
    [ 'a second object' => '{"model":"m"}{"model":"m1"}' ],
    [ 'a second object on its line' => "{\"model\":\"m\"}\n{}\n" ],
    [ 'garbage behind' => '{"model":"m"} x' ],
    [ 'a comma behind' => '{"model":"m"},' ],
    [ 'a zero byte behind' => "{\"model\":\"m\"}\0" ],
    [ 'a brace behind' => '{"model":"m"}}' ],
    [ 'an open string' => '{"model":"m' ],
    [ 'an open object' => '{"model":"m"' ],
    [ 'an open list' => '{"model":"m","a":[' ],

    [ 'a byte order mark' => "\xef\xbb\xbf{\"model\":\"m\"}" ],
    [ 'UTF-16' => "\xff\xfe{\0\"\0m\0" ],
    [ 'a bad byte' => "{\"prompt\":\"\xff\",\"model\":\"m\"}" ],
    [ 'a bad byte in a key' => "{\"\x80\":1,\"model\":\"m\"}" ],
    [ 'an overlong slash' => "{\"prompt\":\"\xc0\xaf\",\"model\":\"m\"}" ],
    [ 'a surrogate in UTF-8'
      => "{\"prompt\":\"\xed\xa0\x80\",\"model\":\"m\"}" ],
    [ 'more than Unicode'
      => "{\"prompt\":\"\xf4\x90\x80\x80\",\"model\":\"m\"}" ],
    [ 'half a sequence' => "{\"prompt\":\"\xe2\x82\",\"model\":\"m\"}" ],
    [ 'a lone high surrogate' => '{"prompt":"\ud800","model":"m"}' ],
    [ 'a lone low surrogate' => '{"prompt":"\udc00","model":"m"}' ],
    [ 'two high surrogates' => '{"prompt":"\ud800\ud800","model":"m"}' ],
    [ 'a lone surrogate in the name' => '{"model":"m\ud800"}' ],

    [ 'a raw line feed' => "{\"prompt\":\"\n\",\"model\":\"m\"}" ],
    [ 'a raw zero byte' => "{\"prompt\":\"\0\",\"model\":\"m\"}" ],
    [ 'a zero byte in the name' => "{\"model\":\"m\0\"}" ],
    [ 'an escaped zero byte in the name' => '{"model":"m\u0000"}' ],
    [ 'more behind a zero byte' => '{"model":"m\u0000x"}' ],
    [ 'only a key with a zero byte' => '{"model\u0000":"m"}' ],
    [ 'an unknown escape' => '{"prompt":"\x41","model":"m"}' ],
    [ 'a short escape' => '{"prompt":"\u12","model":"m"}' ],

    [ 'a comma too many' => '{"model":"m",}' ],
    [ 'a comma too many in a list' => '{"a":[1,],"model":"m"}' ],
    [ 'no comma' => '{"a":1 "model":"m"}' ],
    [ 'no colon' => '{"model" "m"}' ],
    [ 'single quotes' => "{'model':'m'}" ],
    [ 'a key without quotes' => '{model:"m"}' ],
    [ 'a comment' => '{/* */"model":"m"}' ],
    [ 'a comment in a line' => "{\"model\":\"m\"} // x" ],
    [ 'a number 01' => '{"a":01,"model":"m"}' ],
    [ 'a number +1' => '{"a":+1,"model":"m"}' ],
    [ 'a number 1.' => '{"a":1.,"model":"m"}' ],
    [ 'a number .5' => '{"a":.5,"model":"m"}' ],
    [ 'a number 1e' => '{"a":1e,"model":"m"}' ],
    [ 'a number 0x1' => '{"a":0x1,"model":"m"}' ],
    [ 'NaN' => '{"a":NaN,"model":"m"}' ],
    [ 'Infinity' => '{"a":-Infinity,"model":"m"}' ],
    [ 'True' => '{"a":True,"model":"m"}' ],
    [ 'half a word' => '{"a":nul,"model":"m"}' ],
    [ 'brackets mixed' => '{"a":[1},"model":"m"}' ],

    [ 'depth 101'
      => '{"a":' . ('[' x 100) . (']' x 100) . ',"model":"m"}' ],
    [ '200,000 brackets' => '{"model":"m","a":' . ('[' x 200_000) ],
    [ '200,000 objects' => '{"a":' x 200_000 ],

    [ 'a blank before the name' => '{"model":" m"}' ],
    [ 'a blank behind the name' => '{"model":"m "}' ],
    [ 'a line feed behind the name' => '{"model":"m\n"}' ],
    [ 'no-break space' => '{"model":"\u00a0m"}' ],
    [ 'a scheme' => '{"model":"https://registry.ollama.ai/library/m"}' ],
    [ 'a pattern' => '{"model":"m*"}' ],
    [ 'a question mark' => '{"model":"m?"}' ],
    [ 'a quote' => '{"model":"m\""}' ],
    [ 'a backslash' => '{"model":"m\\\\"}' ],
    [ 'a letter with an accent' => '{"model":"m\u00e9"}' ],
    [ 'a long s, which Go would not fold' => '{"model":"\u017f"}' ],
    [ 'an empty part' => '{"model":"library//m"}' ],
    [ 'a slash in front' => '{"model":"/m"}' ],
    [ 'a slash behind' => '{"model":"m/"}' ],
    [ 'an empty tag' => '{"model":"m:"}' ],
    [ 'only a tag' => '{"model":":m"}' ],
    [ 'two tags' => '{"model":"m:a:b"}' ],
    map { [ $_ => qq({"model":"$long{$_}"}) ] } sort keys %long,
);

subtest 'refused' => sub {
    my $before = asked();

    for my $case (@refused) {
        my ($name, $body) = @$case;

        for my $server (@servers) {
            my $r = $t->post('/api/chat', $body, port => $t->port($server));

            is $r->{status}, 400, $name or diag $r->{content};
            like $r->{headers}{'x-hybrid-reason'},
                 qr/^(?:invalid_body|invalid_model|model_required)$/,
                 "$name: why";
            ok $r->{json} && length $r->{json}{error}, "$name: in JSON";
        }
    }

    is asked(), $before, 'the backend knows nothing of it';
};


subtest 'nothing depends on how it was cut' => sub {
    my $before = asked();
    my @cases = grep { length $_->[1] > 1 && length $_->[1] < 80 } @refused;

    for my $case (@cases) {
        my ($name, $body) = @$case;
        my $text = $t->raw([ head('/api/chat', 'Transfer-Encoding: chunked',
            'Connection: close'), chunked(1, $body), "0\r\n\r\n" ]);
        like $text, qr{^HTTP/1\.1 400 }, $name;
    }

    is asked(), $before, 'the backend knows nothing of it';
};


subtest 'in the dialect of the path' => sub {
    my $r = $t->post('/v1/chat/completions', '{"model":1}');
    is $r->{status}, 400;
    is $r->{json}{error}{type}, 'invalid_request_error', 'OpenAI';
    ok length $r->{json}{error}{message};

    $r = $t->post('/v1/messages', '{"model":"m"} x');
    is $r->{status}, 400;
    is $r->{json}{type}, 'error', 'Anthropic';
    is $r->{json}{error}{type}, 'invalid_request_error';
};


# -- the ways a body can come

my $small = '{"options":{"model":"no"},"prompt":"'
            . "\xc3\xa9\\u00e9\\\\" . '","model":"m","stream":false}';

sub answered {
    my ($text, $body, $name) = @_;
    my ($first) = $text =~ /^(\S+ \d+)/;
    is $first, 'HTTP/1.1 200', $name or diag substr $text, 0, 2000;
    is arrived(), sent($body), "$name: the same bytes";
}

subtest 'with a length, in pieces' => sub {
    my $head = head('/api/generate', 'Content-Length: ' . length $small,
                    'Connection: close');

    for my $server (@servers) {
        for my $cut (1, 2, 3, 7, length($small) - 1) {
            my $s = $t->open(port => $t->port($server));
            my $cuts = "in pieces of $cut, server $server";

            # the first piece with the header, then one in each packet
            my @pieces = unpack "(a$cut)*", $small;
            $s->send($head . shift @pieces);

            for my $piece (@pieces) {
                sleep 0.002;
                $s->send($piece);
            }

            answered($s->read_until, $small, $cuts);
        }
    }
};


subtest 'chunked' => sub {
    my $head = head('/api/generate', 'Transfer-Encoding: chunked',
                    'Connection: close');

    for my $server (@servers) {
        my @port = (port => $t->port($server));

        for my $size (1, 2, 5, 64, 1000) {
            my $text = join '', $head, chunked($size, $small), "0\r\n\r\n";

            answered($t->raw($text, @port), $small, "chunks of $size");

            # cut where chunks are not, one byte a packet at the start
            my @pieces = ($head, unpack '(a1)40 (a13)*',
                          substr $text, length $head);
            my $s = $t->open(@port);

            for my $piece (@pieces) {
                $s->send($piece);
                sleep 0.001;
            }

            answered($s->read_until, $small, "chunks of $size, cut oddly");
        }

        my $text = join '', $head, map({ s/\r\n/;name="value"\r\n/r }
                                       chunked(9, $small)),
                   "000;last\r\n\r\n";
        answered($t->raw($text, @port), $small, 'extensions of chunks');
        is $forge->last->{header}{'content-length'}, length $small,
           'the backend gets a length';
        is $forge->last->{header}{'transfer-encoding'}, undef,
           'and no chunks';
    }
};


subtest 'trailers are dropped' => sub {
    my $head = head('/api/generate', 'Transfer-Encoding: chunked',
                    'Trailer: X-Hybrid-Client, Content-Length',
                    'Connection: close');

    answered($t->raw(join '', $head, chunked(10, $small),
        "0\r\nX-Hybrid-Client: mallory\r\nContent-Length: 3\r\n"
        . "X-Late: 1\r\n\r\n"), $small, 'trailers');

    my $header = $forge->last->{header};
    is $header->{'x-hybrid-client'}, 'alice', 'ours stays';
    is $header->{'x-late'}, undef, 'theirs do not go on';
    is $header->{trailer}, undef, 'nor their announcement';
    is $header->{'content-length'}, length $small;
};


subtest 'ambiguous framing' => sub {
    my $before = asked();
    my $length = length $small;

    for my $case (
        [ 'length and chunks' => "Content-Length: $length",
          'Transfer-Encoding: chunked' ],
        [ 'two lengths' => "Content-Length: $length", 'Content-Length: 2' ],
        [ 'the same length twice' => "Content-Length: $length",
          "Content-Length: $length" ],
        [ 'a length with a sign' => "Content-Length: +$length" ],
        [ 'two lengths in one' => "Content-Length: $length, $length" ],
        [ 'chunked twice' => 'Transfer-Encoding: chunked, chunked' ],
        [ 'an unknown encoding' => 'Transfer-Encoding: xchunked' ],
        [ 'gzip and chunks' => 'Transfer-Encoding: gzip, chunked' ])
    {
        my ($name, @lines) = @$case;
        my $text = $t->raw(head('/api/generate', @lines, 'Connection: close')
                           . "1c\r\n$small\r\n0\r\n\r\n");
        like $text, qr{^HTTP/1\.1 (?:400|411|501) }, $name;
    }

    for my $chunk ("5\r\n{\"model\":", "-1\r\nx\r\n", "g\r\nx\r\n", "\r\n",
                   "ffffffffffffffff\r\nx\r\n", "1 \r\n{xx", "0x1\r\n{\r\n")
    {
        my $text = $t->raw(head('/api/generate',
            'Transfer-Encoding: chunked', 'Connection: close')
            . $chunk . "0\r\n\r\n");
        (my $name = $chunk) =~ s/\r\n/|/g;
        like $text, qr{^HTTP/1\.1 400 }, "a bad chunk: $name";
    }

    is asked(), $before, 'the backend knows nothing of it';
};


# 4 MiB, the model behind all of it
my $letters = join '', 'a' .. 'z', 0 .. 9, "\xc3\xa4", '\n';
my $big = '{"stream":false,"prompt":"'
          . ($letters x (4 * 1024 * 1024 / length $letters))
          . '","model":"big"}';

my $big_file = $t->file('big.json', $big);

sub read_pieces {
    my ($body, $size) = @_;
    my $at = 0;
    return sub {
        my $piece = substr $body, $at, $size;
        $at += length $piece;
        return $piece;
    };
}

subtest '4 MiB, model last' => sub {
    for my $server (@servers) {
        my @port = (port => $t->port($server));
        my $r = $t->post('/api/generate', $big, @port);

        is $r->{status}, 200, 'with a length';
        is arrived(), sent($big), 'the same bytes';

        $r = $t->post('/api/generate', read_pieces($big, 10007), @port);
        is $r->{status}, 200, 'chunked';
        is arrived(), sent($big), 'the same bytes';

        $r = $t->post('/api/generate', $big =~ s/"big"/"BIG","model":"m"/r,
                      @port);
        is $r->{status}, 400, 'twice at the end';

        $r = $t->post('/api/generate', $big =~ s/"big"/"other"/r, @port);
        is $r->{status}, 403, 'another model';

        my $long = $big =~ s/}$/', "prompt":"' . ('x' x 2_500_000) . '"}'/er;
        $r = $t->post('/api/generate', $long, @port);
        is $r->{status}, 413, 'too large' or diag substr $r->{content}, 0, 200;
        like $r->{json}{error}, qr/too large/;

        $r = $t->post('/api/generate', read_pieces($long, 50000), @port);
        is $r->{status}, 413, 'too large, chunked';
        is $r->{headers}{'x-hybrid-reason'}, 'body_too_large';
    }

    like $t->log('error.log'), qr/is buffered to a temporary file/,
         'some of them went through a file';
};


# -- HTTP/2

sub h2 {
    my ($n, @args) = @_;
    my $out = $t->run('curl', '-sS', '--noproxy', '*',
        '--http2-prior-knowledge', '-m', $Hybrid::PATIENCE,
        '-H', "Authorization: $alice->{bearer}", '-o', "$t->{dir}/h2.out",
        '-w', '%{http_version} %{http_code}', @args,
        'http://127.0.0.1:' . $t->port($n) . '/api/generate');
    return $out;
}

subtest 'HTTP/2' => sub {
    my $file = $t->file('small.json', $small);

    for my $n (3, 4) {
        is h2($n, '--data-binary', "\@$file"), '2 200', 'small';
        is arrived(), sent($small), 'the same bytes';
        is $forge->last->{header}{'content-length'}, length $small;

        # no length, and read from a pipe as it comes
        is h2($n, '-X', 'POST', '-T', '-', '-H', 'Expect:'), '2 400',
           'nothing, without a length';

        is h2($n, '-X', 'POST', '-T', $file, '-H', 'Expect:'), '2 200',
           'by upload';
        is arrived(), sent($small), 'the same bytes';

        is h2($n, '-H', 'Expect:', '--data-binary', "\@$big_file"), '2 200',
           '4 MiB';
        is arrived(), sent($big), 'the same bytes';

        my $pipe = $t->run('sh', '-c', <<'END',
            cat "$1" | curl -sS --noproxy '*' --http2-prior-knowledge \
                -m "$2" -H "Authorization: $3" -X POST -H Expect: -T - \
                -o /dev/null -w '%{http_version} %{http_code}' "$4"
END
            'sh', $big_file, $Hybrid::PATIENCE, $alice->{bearer},
            'http://127.0.0.1:' . $t->port($n) . '/api/generate');
        is $pipe, '2 200', '4 MiB without a length';
        is arrived(), sent($big), 'the same bytes';
        is $forge->last->{header}{'content-length'}, length $big;

        my $before = asked();

        for my $body ('{"model":"m","MODEL":"m1"}', '{"model":"m"}x',
                      '{"model":null}', '[]', "{\"model\":\"m\0\"}")
        {
            my $bad = $t->file('bad.json', $body);
            is h2($n, '--data-binary', "\@$bad"), '2 400',
               "refused: $body";
        }

        my $other = $t->file('other.json', '{"model":"other"}');
        is h2($n, '--data-binary', "\@$other"), '2 403', 'another model';

        # not by curl 7.88: after an answer that comes before the body has
        # been sent, nginx resets the stream, and curl forgets the answer
        for my $case ([ 415, $alice->{bearer}, 'content-encoding: zstd' ],
                      [ 415, $alice->{bearer}, 'content-encoding: identity',
                        'content-encoding: identity' ],
                      [ 401, 'Bearer x', 'x-nothing: 1' ],
                      [ 401, $alice->{bearer}, 'cf-access-client-id: x' ])
        {
            my ($status, $bearer, @lines) = @$case;
            my $out = $t->run('nghttp', '-v', '-d', $file, '-H',
                "authorization: $bearer", (map { ('-H', $_) } @lines),
                'http://127.0.0.1:' . $t->port($n) . '/api/generate');
            my ($got) = $out =~ /:status: (\d+)/;
            is $got, $status, "@lines";
        }

        is asked(), $before, 'the backend knows nothing of it';

        # frames of another client, several streams in one connection
        my $out = $t->run('nghttp', '-n', '-s', '-m', 5,
            '-H', "authorization: $alice->{bearer}", '-d', $file,
            'http://127.0.0.1:' . $t->port($n) . '/api/generate');
        is +(() = $out =~ m{\b200\b.*/api/generate}g), 5, 'nghttp'
            or diag $out;
        is asked(), $before + 5, 'five streams';
        is arrived(), sent($small), 'the same bytes';
    }
};


# -- what is decided before the body

subtest 'encoded bodies' => sub {
    my $before = asked();

    for my $case (
        [ 'gzip' => 'gzip' ], [ 'zstd' => 'zstd' ], [ 'GZIP' => 'GZIP' ],
        [ 'a list' => 'identity, zstd' ], [ 'two' => 'identity, identity' ],
        [ 'nothing' => '' ], [ 'a parameter' => 'identity;q=1' ],
        [ 'twice' => 'identity', 'identity' ],
        [ 'then zstd' => 'identity', 'zstd' ],
        [ 'first zstd' => 'zstd', 'identity' ])
    {
        my ($name, @values) = @$case;
        my @lines = map { "Content-Encoding: $_" } @values;

        for my $path ('/api/generate', '/v1/chat/completions') {
            my $text = $t->raw(head($path, @lines, 'Content-Length: '
                . length $small, 'Connection: close') . $small);
            like $text, qr{^HTTP/1\.1 415 }, "$name: $path";
            like $text, qr/\r\nX-Hybrid-Reason: content_encoding\r\n/, $name;
        }
    }

    is asked(), $before, 'the backend knows nothing of it';

    my $text = $t->raw(head('/api/generate', 'content-encoding: Identity',
        'Content-Length: ' . length $small, 'Connection: close') . $small);
    answered($text, $small, 'identity');
};


subtest 'Expect: 100-continue' => sub {
    my @expect = ('Content-Length: ' . length $small, 'Expect: 100-continue',
                  'Connection: close');
    my $s = $t->open;

    $s->send(head('/api/generate', @expect));
    like $s->read_until(qr/\r\n\r\n/), qr{^HTTP/1\.1 100 Continue\r\n\r\n$},
         'asked for';
    $s->{buffer} = '';
    $s->send($small);
    answered($s->read_until, $small, 'and sent');
    is $forge->last->{header}{expect}, undef, 'no matter of the backend';

    # nginx would go on waiting for the body
    my @answer = (until => qr/\}\s*$/);

    my $text = $t->raw("POST /api/generate HTTP/1.1\r\nHost: x\r\n"
        . join("\r\n", @expect) . "\r\n\r\n", @answer);
    like $text, qr{^HTTP/1\.1 401 }, 'no body is asked for from a stranger';

    $text = $t->raw(head('/api/generate', @expect, 'Content-Encoding: gzip'),
                    @answer);
    like $text, qr{^HTTP/1\.1 415 }, 'nor one that is encoded';

    $text = $t->raw(head('/api/nothing', @expect), @answer);
    like $text, qr{^HTTP/1\.1 403 }, 'nor one for nothing';

    $text = $t->raw(head('/api/generate', 'Content-Length: 99999999',
                         @expect[1, 2]), @answer);
    like $text, qr{^HTTP/1\.1 413 }, 'nor one that is too long';
};


subtest 'a refused body is not the next request' => sub {
    my $inner = "GET /api/version HTTP/1.1\r\nHost: x\r\n"
                . $t->auth_lines . "\r\n";
    my $next = "GET /api/tags HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
               . $t->auth_lines . "\r\n";
    my $length = 'Content-Length: ' . length $inner;
    my $before = asked();

    for my $case (
        [ 401, "POST /api/chat HTTP/1.1\r\nHost: x\r\n$length\r\n\r\n" ],
        [ 403, head('/api/none', $length) ],
        [ 405, head('/api/tags', $length) ],
        [ 415, head('/api/chat', $length, 'Content-Encoding: zstd') ],
        [ 400, head('/api/chat', $length) ],
        [ 400, head('/api/version', $length) =~ s/^POST/GET/r ])
    {
        my ($status, $head) = @$case;
        my $text = $t->raw("$head$inner$next");
        my @status = $text =~ m{HTTP/1\.1 (\d+) }g;

        # nginx closes after a 400
        is "@status", $status == 400 ? 400 : "$status 200", "after $status";
        unlike $text, qr/"version"/, 'nothing in it was answered';
    }

    is asked(), $before, 'the backend knows nothing of it';
};


subtest 'half a body' => sub {
    my $before = asked();

    for my $server (@servers) {
        for my $end (qw(close reset)) {
            my $s = $t->open(port => $t->port($server));
            $s->send(head('/api/generate', 'Content-Length: 3000')
                     . substr $big, 0, 2000);
            $s->$end;
        }

        my $s = $t->open(port => $t->port($server));
        $s->send(head('/api/generate', 'Transfer-Encoding: chunked')
                 . join '', chunked(100, $small));
        $s->close;
    }

    ok $t->wait_log('access.log',
                    qr{"POST /api/generate HTTP/1.1" (?:400|499) }, 6),
       'ends when the client leaves';
    is asked(), $before, 'the backend knows nothing of it';
    is $t->get('/api/version')->{status}, 200, 'others are served';
};


subtest 'one after the other' => sub {
    my $s = $t->open;
    my $head = head('/api/generate', 'Content-Length: ' . length $small);
    my $last = head('/api/generate', 'Content-Length: ' . length $small,
                    'Connection: close');
    my $before = asked();

    # pipelined: a body ends where the next request starts
    $s->send(("$head$small" x 3) . "$last$small");
    my $text = $s->read_until;
    is +(() = $text =~ m{HTTP/1\.1 200 }g), 4, 'four answers';
    is asked(), $before + 4;
    is arrived(), sent($small), 'the same bytes';
};


subtest 'no body where none is expected' => sub {
    for my $path ('/', '/api/version', '/api/tags', '/v1/models',
                  '/v1/models/m')
    {
        my $r = $t->request('GET', $path, content => '{"model":"m"}');
        is $r->{status}, 400, "$path: a length";
        $r = $t->request('GET', $path, content => read_pieces('{}', 1));
        is $r->{status}, 400, "$path: chunked";
    }
};


$t->done;
