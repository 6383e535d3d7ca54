# "rename": a backend gets the name it knows, and all other bytes as they
# came, however they came; the client and the logs see the client's request.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $LONG = 'a-very-much-longer/Name:70b-instruct.q4_K_M';
my $t = Hybrid->new;
my $forge = $t->backend('forge',
                        models => "one,$LONG,n,same2,first,Any-Other,m1,m2");
my $anvil = $t->backend('anvil', models => 'both,anvils-name:1b,plain');
my $vertex = $t->backend('vertex', models => 'google/gemini');
my $alice = $t->{as} = $t->token('alice');

my $format = join '|', map { "\$$_" }
    qw(server_port request_length content_length request_uri uri args
       hybrid_model hybrid_backends status request_body_file);

my $location = 'location / { hybrid_access token; include %PROXY%; }';

# the servers have a size of their own
$t->start(proxy => sub { s/^client_body_buffer_size.*;//m }, http => <<"END");
    hybrid_client alice { $alice->{line} models * a-very-much-longer/*; }

    upstream forge { zone forge 64k; server $forge->{addr} max_fails=0;
                     keepalive 4; }
    upstream anvil { zone anvil 64k; server $anvil->{addr} max_fails=0;
                     keepalive 4; }
    upstream twice { server $forge->{addr} max_fails=0;
                     server $forge->{addr} max_fails=0; }

    hybrid_backend forge  { pass http://forge; models m1;
                            rename longer   $LONG;
                            rename a-name-that-is-long:latest n;
                            rename same1    same2;
                            rename glob-one first;
                            rename glob-*   Any-Other;
                            rename glob-two never;
                            rename both     one;
                            rename longer   never; }
    hybrid_backend anvil  { pass http://anvil; models both plain;
                            rename twins    anvils-name:1b; }
    hybrid_backend spare  { pass http://forge; rename twins $LONG; }
    hybrid_backend twice  { pass http://twice; rename again m2; }
    hybrid_backend vertex { pass http://$vertex->{addr}/v1/projects/p;
                            api openai; rename gem google/gemini; }

    hybrid_route *     forge;
    hybrid_route plain anvil;
    hybrid_route both  forge anvil;
    hybrid_route twins spare anvil;
    hybrid_route again twice;
    hybrid_route gem   vertex;

    log_format all "$format";
    access_log access.log all;

    client_body_buffer_size 4m;
    server { listen 127.0.0.1:%PORT%; $location }
    server { listen 127.0.0.1:%PORT2%; $location
             client_body_buffer_size 1k; }
    server { listen 127.0.0.1:%PORT3% http2; $location
             client_body_buffer_size 16k; }
END

sub spools {
    my @n = $t->log('error.log') =~ /body is buffered to a temporary file/g;
    return scalar @n;
}

# the head of a request
sub head {
    my ($length, %o) = @_;
    my $path = $o{path} || '/v1/chat/completions';
    return join "\r\n", "POST $path HTTP/1.1", 'Host: x',
        defined $length ? "Content-Length: $length"
                        : 'Transfer-Encoding: chunked',
        ($o{keep} ? () : 'Connection: close'), ($o{more} ? $o{more} : ()),
        $t->auth_lines . "\r\n";
}

sub chunks { join '', map { sprintf "%x\r\n%s\r\n", length, $_ } @_, '' }

# in pieces of these lengths, the last one as often as needed
sub cut {
    my ($text, @lengths) = @_;
    my @pieces;

    for (my $at = 0; $at < length $text; $at += $lengths[0]) {
        shift @lengths if @pieces && @lengths > 1;
        push @pieces, substr $text, $at, $lengths[0];
    }

    return @pieces;
}

# one answer of a connection that goes on
sub answer {
    my ($s) = @_;
    my ($head) = $s->read_until(qr/\r\n\r\n/) =~ /\A(.*?\r\n\r\n)/s
        or return 'no answer';
    my ($length) = $head =~ /^Content-Length: (\d+)/mi;
    my $whole = length($head) + $length;

    $s->read_until(qr/\A.{$whole}/s);
    substr $s->{buffer}, 0, $whole, '';

    return $head =~ m{^HTTP/1\.1 (\d+)} ? $1 : $head;
}

# the backend has got this body, once and whole
sub got {
    my ($b, $body, $name) = @_;
    my @r = $b->requests;
    my $last = $r[-1] || {};

    is scalar @r, 1, "$name: one request";
    is $last->{body_sha256}, Hybrid::sha256($body), "$name: body"
        or diag $last->{body};
    is $last->{header}{'content-length'}, length $body, "$name: length";
    is $last->{header}{'transfer-encoding'}, undef, "$name: not chunked";
    $b->clear;
}

# how a body may come, and a place in it to cut at
my %send = (
    'in one piece' => sub { $t->raw(head(length $_[0]) . $_[0]) },

    # what comes with the head is another buffer than the rest
    'half with the head' => sub {
        my ($body, $at) = @_;
        my $s = $t->open;
        $s->send(head(length $body, more => 'Expect: 100-continue')
                 . substr $body, 0, $at);
        $s->read_until(qr{^HTTP/1\.1 100 .*?\r\n\r\n}s);
        $s->{buffer} =~ s{\AHTTP/1\.1 100 .*?\r\n\r\n}{}s;
        $s->send(substr $body, $at);
        my $text = $s->read_until;
        $s->close;
        return $text;
    },

    'in many pieces' => sub {
        $t->raw([ head(length $_[0]), cut(@_, 1) ]);
    },
    'as a chunk' => sub { $t->raw(head() . chunks($_[0])) },
    'as some chunks' => sub { $t->raw(head() . chunks(cut(@_, 4, 200))) },
    'as chunks of a byte' => sub { $t->raw(head() . chunks(cut($_[0], 1))) },
);

# before, what the client says, after, what the backend hears
my @bodies = (
    [ 'the only key', '{"model":"', 'longer', '"}', $LONG ],
    [ 'shorter', '{"model":"', 'a-name-that-is-long',
      '","messages":[{"role":"user","content":"a-name-that-is-long"}]}',
      'n' ],
    [ 'equal', '{"stream":false,"model":"', 'same1', '","x":"same1"}',
      'same2' ],
    [ 'last', '{"x":["longer"],"longer":1,"y":{"model":"longer"},"model":"',
      'longer', '"}', $LONG ],
    [ 'in the middle', '{"s":"\"model\":\"longer\"","model":"', 'longer',
      '","model2":"longer","\u006dodels":"longer"}', $LONG ],
    [ 'escapes', '{"model":"', '\u006conge\u0072', '"}', $LONG ],
    [ 'nothing but escapes', '{"model":"',
      join('', map { sprintf '\u%04X', ord } split //, 'longer'), '"}',
      $LONG ],
    [ 'an escaped slash', '{"model":"', 'library\/longer', '"}', $LONG ],
    [ 'an escaped key', '{"\u006do\u0064el":"', 'longer', '","a":"\/"}',
      $LONG ],
    [ 'another spelling', '{"model":"', 'Library/SAME1:Latest', '"}',
      'same2' ],
    [ 'blanks', " \r\n\t{ \"a\" : 1 ,\t\"model\"\n:\r \"", 'longer',
      "\" \n, \"b\" :\t2 }\r\n \n", $LONG ],
    [ 'UTF-8', "{\"p\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\",\"model\":\"",
      'longer', "\",\"q\":\"\\ud83d\\ude00\xc3\xa4\"}", $LONG ],
    [ 'the first that matches', '{"model":"', 'glob-one', '"}', 'first' ],
    [ 'a glob', '{"model":"', 'GLOB-two:8b', '"}', 'Any-Other' ],
    [ 'not renamed', '{"model":"', '\u006d1', '"}', '\u006d1' ],
);


subtest 'bodies, and how they come' => sub {
    for my $case (@bodies) {
        my ($what, $before, $old, $after, $new) = @$case;

        for my $how (sort keys %send) {
            my $text = $send{$how}->("$before$old$after",
                                     length($before) + 3);
            like $text, qr{^HTTP/1\.1 200 }, "$what, $how" or diag $text;
            got($forge, "$before$new$after", "$what, $how");
        }
    }

    my ($before, $after) = ('{"a":1,"model":"', '","b":2}');

    for my $at (length($before) - 1 .. length($before) + 7) {
        for my $how ('half with the head', 'as some chunks') {
            $send{$how}->("${before}longer$after", $at);
            got($forge, "$before$LONG$after", "cut at $at, $how");
        }
    }
};


subtest 'large bodies, memory and disk' => sub {
    # port, KiB, whether it is more than the buffer
    for my $case ([ 1, 200, 0 ], [ 2, 4, 1 ], [ 2, 200, 1 ], [ 1, 4000, 0 ],
                  [ 2, 4096, 1 ], [ 1, 6000, 1 ])
    {
        my ($port, $kb, $disk) = @$case;
        my $some = join '', map { sprintf '%08x', $_ * 2654435761 % 2 ** 32 }
                                1 .. 64;
        my $half = $some x $kb;

        for my $place ([ 'first', '{"model":"', qq(","p":"$half$half"}) ],
                       [ 'middle', qq({"p":"$half","model":"),
                         qq(","q":"$half"}) ],
                       [ 'last', qq({"p":"$half$half","model":"), '"}' ])
        {
            my ($where, $before, $after) = @$place;
            my ($old, $new) = $where eq 'middle' ? ('a-name-that-is-long', 'n')
                                                 : ('longer', $LONG);
            my $body = "$before$old$after";
            my @cut = cut($body, length($before) + 3, 1, 1, 65536);

            for my $how ('', ', chunked') {
                my $name = "$kb KiB, $where, port $port$how";
                my $n = spools();
                my $text = $t->raw([ head($how ? undef : length $body),
                                     $how ? chunks(@cut) : @cut ],
                                   port => $t->port($port));

                like $text, qr{^HTTP/1\.1 200 }, $name;
                is spools() - $n, $disk, "$name: disk";
                got($forge, "$before$new$after", $name);
            }
        }
    }

    ok poll { !glob "$t->{dir}/tmp_client_body/*" }, 'no file is left';
};


subtest 'other backends, other names' => sub {
    my $pad = 'x' x 5000;
    my ($before, $after) = (qq({"pad":"$pad","model":"), '","b":[1,2]}');

    # to the next peer, to a backend with another name, and with none
    my @cases = ([ 'again', [ $forge, 'm2' ], [ $forge, 'm2' ] ],
                 [ 'twins', [ $forge, $LONG ], [ $anvil, 'anvils-name:1b' ] ],
                 [ 'both', [ $forge, 'one' ], [ $anvil, 'both' ] ]);

    for my $case (@cases) {
        my ($model, @tries) = @$case;

        my $fault = $model eq 'again' ? { close_before_header => \1 }
                                      : { status => 503 };

        for my $port (1, 2) {
            $forge->behave(%$fault, times => 1);
            my $r = $t->post('/v1/chat/completions', "$before$model$after",
                             port => $t->port($port));
            is $r->{status}, 200, "$model, port $port";

            my @seen = ($forge->requests, $anvil->requests);
            is_deeply [ map { $_->{header}{'content-length'},
                              $_->{body_sha256} } @seen ],
                [ map { length, Hybrid::sha256($_) }
                  map { "$before$_->[1]$after" } @tries ], 'both bodies';
            $_->clear for $forge, $anvil;
        }
    }
};


subtest 'endpoints' => sub {
    my @v1 = map { "/v1/$_" } qw(chat/completions completions embeddings
                                 responses messages);

    $_->behave(status => 200, body => { ok => 1 }, all => 1)
        for $forge, $vertex;

    for my $path (qw(/api/chat /api/generate /api/embed /api/embeddings), @v1,
                  '/api/show')
    {
        is $t->post("$path?model=m1", '{"model":"longer"}')->{status}, 200;
        is $forge->last->{target}, $path;
        is $forge->last->{body}, qq({"model":"$LONG"}), $path;
    }

    for my $path (@v1) {
        is $t->post($path, '{"model":"gem"}')->{status}, 200;
        is $vertex->last->{target}, "/v1/projects/p" . substr $path, 3;
        is $vertex->last->{body}, '{"model":"google/gemini"}', $path;
    }

    $_->clear for $forge, $vertex;

    my $body = '{"verbose":true,"name":"%s","x":{"name":"longer"}}';
    is $t->post('/api/show', sprintf $body, 'longer')->{status}, 200;
    got($forge, sprintf($body, $LONG), '"name"');

    for my $case ([ same1 => 'same2', $forge, '' ],
                  [ 'SAME1:latest' => 'same2', $forge, '' ],
                  [ m1 => 'm1', $forge, '' ],
                  [ 'glob-3' => 'Any-Other', $forge, '' ],
                  [ gem => 'google/gemini', $vertex, '/projects/p' ])
    {
        my ($old, $new, $b, $base) = @$case;
        $b->behave(status => 200, body => { ok => 1 }, all => 1);
        is $t->get("/v1/models/$old?x=y")->{status}, 200, "path $old";
        is $b->last->{target}, "/v1$base/models/$new";
        $b->clear;
    }
};


subtest 'streams' => sub {
    my $r = $t->post('/api/chat', '{"model":"longer","messages":[]}');
    my @lines = split /\n/, $r->{content};
    my @json = map { eval { Hybrid::decode($_) } || {} } @lines;
    is $r->{status}, 200;
    cmp_ok scalar @lines, '>', 5, 'many lines';
    is scalar(grep { exists $_->{done} } @json), scalar @lines, 'all whole';
    ok $json[-1]{done} && !$json[0]{done}, 'the last one says so';

    $r = $t->post('/v1/chat/completions',
                  '{"model":"longer","stream":true,"messages":[]}');
    like $r->{content}, qr/^data: \{.*\ndata: \[DONE\]\n\n\z/s, 'events';
    $forge->clear;
};


subtest 'a connection, with and without' => sub {
    my @asks = map { [ '{"stream":false,"model":"' . $_->[0] . '"}',
                       '{"stream":false,"model":"' . $_->[1] . '"}' ] }
               [ longer => $LONG ], [ qw(m1 m1) ],
               [ 'a-name-that-is-long', 'n' ], [ qw(m1 m1) ],
               [ qw(same1 same2) ], [ longer => $LONG ];

    for my $how ('one by one', 'at once', 'one by one, chunked',
                 'at once, chunked')
    {
        my @out = map { $how =~ /chunked/
                        ? head(undef, keep => 1) . chunks(cut($_->[0], 27, 2))
                        : head(length $_->[0], keep => 1) . $_->[0] } @asks;
        my $s = $t->open;

        $s->send(join '', @out) if $how =~ /once/;
        is join(' ', map { $s->send($_) if $how !~ /once/; answer($s) } @out),
           '200 200 200 200 200 200', $how;
        $s->close;
        is $s->{buffer}, '', 'and nothing more';
        is_deeply [ map { $_->{body} } $forge->requests ],
                  [ map { $_->[1] } @asks ], 'all bodies';
        my %used = map { $_->{connection} => 1 } $forge->requests;
        is keys %used, 1, 'one connection there, too';
        $forge->clear;
    }
};


subtest 'what the log says' => sub {
    my $line = sub {
        my ($mark) = @_;
        my ($line) = ($t->wait_log('access.log', qr/mark=$mark\b.*\n/) // '')
                     =~ /^(.*mark=$mark\b.*)$/m;
        return $line // '';
    };

    for my $port (1, 2) {
        my $body = '{"model":"Longer:latest","pad":"' . 'x' x 3000 . '"}';
        my $path = "/api/embed?mark=$port&a=%41";
        my $bytes = head(length $body, path => $path) . $body;
        my $p = $t->port($port);
        my $file = $port == 2 ? qr{\S+/tmp_client_body/\d+} : '-?';

        $t->raw($bytes, port => $p);
        like $line->($port), qr{^$p\|${\ length $bytes}\|${\ length $body}\|
            \Q$path\E\|/api/embed\|mark=$port&a=%41\|longer\|forge\|200\|$file
            $}x, "port $port";
    }

    my $path = '/v1/models/same1?mark=3';
    $t->get($path);
    like $line->(3), qr{^\d+\|\d+\|-\|\Q$path\E\|/v1/models/same1\|
                        mark=3\|same1\|forge\|200\|-$}x, 'a path';

    $forge->behave(status => 503, times => 1);
    $t->post('/v1/completions?mark=4', '{"prompt":"x","model":"twins"}');
    like $line->(4), qr{\|30\|/v1/completions\?mark=4\|/v1/completions\|
                        mark=4\|twins\|spare,anvil\|200\|-$}x, 'two names';
    $_->clear for $forge, $anvil;
};


subtest 'HTTP/2' => sub {
    plan skip_all => 'curl without HTTP/2'
        if $t->run('curl', '-V') !~ /\bHTTP2\b/;

    for my $kb (0, 8, 600) {
        my $pad = 'y' x ($kb * 1024);
        my ($before, $after) = (qq({"a":"$pad","model":"), qq(","b":"$pad"}));
        my $file = $t->file('body', "${before}longer$after");

        for my $more ([], [ '-H', 'Content-Length:' ]) {
            my $text = $t->run(qw(curl -sS --http2-prior-knowledge -w),
                '|%{http_code} %{http_version}', '--data-binary',
                "\@$file", '-H', "Authorization: $alice->{bearer}", @$more,
                'http://127.0.0.1:' . $t->port(3) . '/v1/chat/completions');
            like $text, qr/\|200 2$/, "$kb KiB, @$more";
            got($forge, "$before$LONG$after", "$kb KiB, @$more");
        }
    }
};


# and no alert: nginx ends a chunked body with an empty buffer
$t->done;
