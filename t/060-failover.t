# What moves a request to the next candidate and what does not, what each
# candidate is sent, and what the client sees of it.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;

# model => its backends; an upstream of its own for each that has one below
my %route = (
    two => 'forge anvil', three => 'forge anvil spark', dead => 'off1 anvil',
    late => 'off1 forge', nobody => 'off1 off2', down => 'down',
    halfdown => 'forge down', thendown => 'down off1 anvil',
    between => 'forge off1 down', paths => 'paths anvil', lone => 'paths',
    counted => 'counted anvil', skip => 'skip anvil', gone => 'gone anvil',
    spare => 'spare anvil', kept => 'kept anvil', ren => 'forge ren spark',
    tls => 'keyed home vertex', back => 'vertex forge',
    named => 'forge named', wrong => 'wrong anvil', fake => 'fake anvil',
    only => 'wrong', cloudy => 'forge vertex',
    away => 'off1 vertex', uphill => 'down vertex', 'odd*' => 'odd anvil');
my @routes = map { "hybrid_route $_ $route{$_};" } keys %route;

# several, lest a breaker opens for one
my @odd = map { "odd$_" } 1 .. 40;
my @options = (models => join(',', keys %route, @odd, 'other:7b'),
               tokens => 12);
my $ca = $t->ca;
my ($forge, $anvil, $spark) = my @local =
    map { $t->backend($_, @options) } qw(forge anvil spark);
my $home = $t->backend('home', @options,
                       tls => $t->cert($ca, 'home.test', 'localhost'));
my $vertex = $t->backend('vertex', @options,
                         tls => $t->cert($ca, 'vertex.test'));
my $fake = $t->backend('fake', @options,
                       tls => $t->cert($t->ca('ca2'), 'fake.test'));
my %backend = map { $_->{name} => $_ } @local, $home, $vertex, $fake;

# played by the test itself
my $odd = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
    Proto => 'tcp', Timeout => $Hybrid::PATIENCE) or die "listen: $!";

my ($never, $once) = (' max_fails=0;', ' max_fails=1 fail_timeout=1h;');
my ($f, $n, $s) = map { "server $_->{addr}" } @local;
my @off = map { 'server 127.0.0.1:' . $t->closed_port } 1 .. 6;
my %upstream = (
    off1 => "$off[0];", off2 => "$off[1];", down => "$f down; $n down;",
    paths => "$f$never $s$never", counted => "$f$once $s$once",
    skip => "$off[2]$once $f;", gone => "$off[3]$once $off[4]$once",
    spare => "$off[5]$once $f backup;", kept => "$f; keepalive 8;",
    wrong => "server $home->{addr};",
    map { $_->{name} => "zone $_->{name} 64k; server $_->{addr};" }
        values %backend);
my @upstreams = map { "upstream $_ { $upstream{$_} }" } keys %upstream;
my @plain = map { "hybrid_backend $_ { pass http://$_; probe off; }" }
            qw(forge anvil spark off1 off2 down counted paths
               skip gone spare);

my %secret = map { $_ => $t->file("secret.$_", "secret-$_\n") }
             qw(forge id home vertex);
my %client = map { $_ => $t->token($_) } qw(alice carol root);
$t->{as} = $client{alice};

# a server with the shipped configuration but for these directives
sub server {
    my ($port, %change) = @_;
    my $text = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf");

    my $more = delete $change{more} // '';

    $change{proxy_ssl_trusted_certificate} = $ca->{cert};

    for my $name (keys %change) {
        $text =~ s/^$name\s[^;]*;/$name $change{$name};/m or die $name;
    }

    my $file = $t->file("proxy.$port", $text);
    return "server { listen 127.0.0.1:%PORT$port% reuseport; $more "
           . "location / { hybrid_access token; include $file; } }\n";
}

my ($spool, $slow, $single, $off, $pair) = 2 .. 6;
my @small = (client_body_buffer_size => '16k');
my %o = (http => <<"END");
    hybrid_client alice { $client{alice}{line} models *; }
    hybrid_client carol { $client{carol}{line} models *; egress any; }
    hybrid_client root  { $client{root}{line} models *; verbs admin; }

    @upstreams
    @plain
    hybrid_backend kept  { pass http://kept; probe off; rename kept other:7b; }
    hybrid_backend ren   { pass http://anvil; probe off; rename ren other:7b; }
    hybrid_backend odd   { pass http://127.0.0.1:${\ $odd->sockport };
                           probe off; }
    hybrid_backend keyed { pass http://forge; probe off; host forge.test;
                           credential header X-Key $secret{forge}; }
    hybrid_backend home  { pass https://home; probe off; host home.test;
                           credential access $secret{id} $secret{home}; }
    hybrid_backend named { pass https://localhost:$home->{port}; probe off; }
    hybrid_backend vertex { pass https://vertex/base/; host vertex.test;
                            egress cloud; credential bearer $secret{vertex}; }
    hybrid_backend wrong { pass https://wrong; probe off; host wrong.test;
                           credential bearer $secret{home}; }
    hybrid_backend fake  { pass https://fake; probe off; host fake.test; }
    @routes

    log_format tries '\$http_x_request_id \$hybrid_backends'
                     ' \$hybrid_reason \$hybrid_backend \$upstream_addr \$pid|';
    access_log access.log tries;
END

# nginx does not free the TLS session of a peer without a zone when it leaves
$o{http} .= server(1)
    . server($spool, @small, more => 'proxy_ssl_session_reuse off;') .
      server($slow, proxy_read_timeout => '2s', @small)
    . server($single, proxy_next_upstream_tries => 1)
    . server($pair, proxy_next_upstream_tries => 2)
    . server($off, proxy_next_upstream => 'off');
$t->start(%o);

my %fault = (closed => { close_before_header => \1 },
             reset => { reset => \1 }, timeout => { hang_before_header => \1 },
             map { ("http_$_" => { status => $_ }) } 404, 429, 500,
             502 .. 504);
my $letters = join '', map { sprintf '%06x', $_ } 1 .. 65521;
my $id = 0;

# what was is forgotten, and these backends fail: a name in %fault or a hash
sub set {
    my %does = (forge => {}, anvil => {}, spark => {}, @_);

    for (keys %does) {
        $backend{$_}->clear;
        $backend{$_}->behave(%{ref $does{$_} ? $does{$_} : $fault{$does{$_}}});
    }
}

# MODEL, "status backend fallback" and the name of the test
sub ask {
    my ($model, $expected, $name, %o) = @_;
    my $path = delete $o{path} || '/api/generate';
    my $server = delete $o{server} || 1;

    $o{content} //= body($model, 9);
    my $r = $t->post($path, $o{content}, %o, port => $t->port($server),
                     headers => { 'X-Request-Id' => 'n' . ++$id });
    is join(' ', $r->{status}, map { $r->{headers}{"x-hybrid-$_"} // '-' }
                               qw(backend fallback)), $expected, $name;
    return $r;
}

# the line of the last request: tried, reason, backend, addresses
sub logged {
    my ($line) = ($t->wait_log('access.log', qr/^n$id .*\|$/m) // '')
                 =~ /^n$id (.*)\|$/m;
    return split ' ', $line // '', 4;
}

sub tried { join ' ', (logged())[0 .. 2] }
sub asked { join ' ', map { scalar $backend{$_}->requests } @_ }
sub spooled { scalar(() = $t->log('error.log') =~ /buffered to a temp/g) }

sub body {
    my ($model, $size) = @_;
    my $text = substr $letters x (1 + $size / length $letters), 0, $size;
    return qq({"prompt":"$text","model":"$model","stream":false});
}

sub renamed { $_[0] =~ s/"model":"[^"]+"/"model":"other:7b"/r }

# that the backend was sent just these bodies
sub got {
    my ($name, @bodies) = @_;
    is_deeply [ map { "$_->{body_length} $_->{body_sha256}" }
                    $backend{$name}->requests ],
              [ map { length($_) . ' ' . Hybrid::sha256($_) } @bodies ],
              "$name: " . @bodies . ' times the body';
}

# small, in memory, in a file: size and server
my @sizes = ([ 9, 1 ], [ 204800, 1 ], [ 204800, $spool ]);


subtest 'moved, with the body' => sub {
    for my $fault (sort keys %fault) {
        my $reason = $fault =~ /closed|reset/ ? 'error' : $fault;

        for my $case ($fault eq 'timeout' ? ([ 9, $slow ], [ 204800, $slow ])
                                          : @sizes)
        {
            my ($size, $server) = @$case;
            my $body = body('two', $size);
            my $files = spooled();

            set(forge => { %{$fault{$fault}}, times => 1 });
            ask('two', "200 anvil $reason", "$fault, $size", content => $body,
                server => $server);
            got($_, $body) for qw(forge anvil);
            is spooled() - $files, $size > 9 && $server > 1 ? 1 : 0, 'files';
            is tried(), "forge,anvil $reason anvil", 'in the log';
            ask('two', '200 forge -', 'well again');    # no breaker opens
        }
    }

    for my $case (@sizes) {
        my $body = body('dead', $case->[0]);
        set();
        ask('dead', '200 anvil error', 'connection refused', content => $body,
            server => $case->[1]);
        is tried(), 'off1,anvil error anvil';
        got('anvil', $body);
    }

    ask('thendown', '200 anvil no_live', 'down, off, up');
    is tried(), 'off1,anvil no_live anvil', 'what is down was not tried';
    ask('two', '200 forge -', 'the first choice');
    is tried(), 'forge - forge';
    $forge->stop;
    ask('two', '200 anvil error', 'a stopped one');
    $forge->start;
    ask('two', '200 forge -', 'that is back');

    set(forge => 'http_404', anvil => 'http_503');
    ask('three', '200 spark http_404', 'two moves: the first reason',
        content => body('three', 204800), server => $spool);
    is tried(), 'forge,anvil,spark http_404 spark';
    is asked(qw(forge anvil spark)), '1 1 1';
};


# a request to the backend that is the test: the answer that the client gets
sub play {
    my ($body, $server, $answer, $hold) = @_;
    my $s = $t->open(port => $t->port($server));

    $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
             . 'Content-Length: ' . length($body) . "\r\n"
             . $t->auth_lines . "\r\n$body");

    my $c = $odd->accept or die 'not asked';
    my $text = '';

    1 while $text !~ /\r\n\r\n/ && sysread $c, $text, 1024, length $text;
    syswrite $c, $answer if length $answer;
    close $c if !$hold;
    $text = $s->read_until;

    like $text, qr/^HTTP\/1.1 200 .*^X-Hybrid-Backend: anvil\r$/ms, 'answered';
    return $text =~ /^X-Hybrid-Fallback: (.*)\r$/m ? $1 : '';
}

subtest 'half of a request, half of an answer' => sub {
    my $busy = "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}";
    my $size = 8 << 20;

    # more than the kernel takes: the rest was not sent
    for my $server (1, $spool) {
        for my $case ([ '', 0 ], [ $busy, 0 ], [ $busy, 1 ]) {
            my ($answer, $hold) = @$case;
            my $body = body(shift @odd, $size);
            set();

            # a reset may come before what was said
            like play($body, $server, $answer, $hold),
                 $hold ? qr/^http_503$/ : $answer ? qr/^(?:http_503|error)$/
                       : qr/^error$/, 'the reason';
            got('anvil', $body);
        }
    }

    # a status line alone is no answer
    for my $case ([ timeout => '', 1 ], [ timeout => "HTTP/1.1 200 X\r\n", 1 ],
                  [ error => "HTTP/1.1 200 X\r\nX-A: b", 0 ],
                  [ error => "HTTP/1.1 404 X\r\nX-A: b\r\n", 0 ])
    {
        my ($reason, $answer, $hold) = @$case;
        is play(body(shift @odd, 9), $slow, $answer, $hold), $reason,
           "$reason after " . length($answer) . ' bytes of a header';
    }
};


subtest 'not moved' => sub {
    for my $status (200, 400, 401, 403, 422) {
        set(forge => { status => $status, body => { error => "f$status" } });
        my $r = ask('two', "$status forge -", "status $status");
        is $r->{content}, qq({"error":"f$status"}), 'its own words';
        is $r->{headers}{'x-hybrid-reason'}, undef, 'no refusal of ours';
        is asked(qw(forge anvil)), '1 0', 'one was asked';
    }

    set(forge => { close_after_tokens => 3 });
    ask('two', '599 - -', 'a stream that breaks is broken',
        content => '{"model":"two"}');
    is tried(), 'forge broken forge', 'by the first';
    is asked(qw(forge anvil)), '1 0', 'the second was not asked';
};


subtest 'all fail' => sub {
    for my $status (404, 429, 500, 502, 503, 504) {
        my ($first, $last) = map { { status => $status, retry_after => $_,
            body => { error => "from $_" } } } 7, 9;

        set(forge => $first, anvil => $last);
        my $r = ask('two', "$status anvil http_$status", "twice $status");
        is $r->{content}, '{"error":"from 9"}', 'the words of the last';
        is $r->{headers}{'retry-after'}, 9, 'its Retry-After, once';
        is asked(qw(forge anvil)), '1 1', 'each once';

        $r = ask('late', "$status forge error", "dead, $status");
        is $r->{content}, '{"error":"from 7"}', 'the words of the living';
        is $r->{headers}{'retry-after'}, 7;

        # its words are gone when it turns out that there is no other; who
        # may have the model is down, so a 404 is not the last word
        my $final = $status == 404 ? 503 : $status;
        set(forge => $first);
        $r = ask('halfdown', "$final forge -", "$status, down");
        is asked('forge'), 1, 'once';
        ok length $r->{json}{error}, 'in the dialect';
        is $r->{headers}{'retry-after'}, $status == 404 ? 1 : 7, 'Retry-After'
            if $final =~ /429|503/;

        set(forge => $first, spark => $first);
        $r = ask('lone', "$status paths -", 'a machine with two paths');
        is $r->{content}, '{"error":"from 7"}', 'its words';
    }

    for my $case ([ qw(http_503 http_404 404) ], [ qw(http_404 http_503 503) ],
                  [ qw(http_404 closed 502) ])
    {
        set(forge => $case->[0], anvil => $case->[1]);
        ask('two', "$case->[2] anvil $case->[0]", "@$case[0, 1]");
    }

    set(forge => 'timeout', anvil => 'timeout');
    my $r = ask('two', '504 anvil timeout', 'both silent', server => $slow);
    is $r->{headers}{'x-hybrid-reason'}, 'backend_timeout';

    # it was a timeout
    ask('halfdown', '504 forge -', 'silent, down', server => $slow);

    # 404 was what another one said
    set(forge => 'http_404');
    ask('between', '502 off1 http_404', '404, dead, down');

    $r = ask('nobody', '502 off2 error', 'nobody listens');
    is $r->{headers}{'x-hybrid-reason'}, 'backend_error';
    is tried(), 'off1,off2 backend_error off2';

    $r = ask('down', '503 - -', 'all are down');
    is $r->{headers}{'x-hybrid-reason'}, 'unavailable';
    ok $r->{headers}{'retry-after'}, 'Retry-After';
    is tried(), '- unavailable -';
};


subtest 'two paths of one machine' => sub {
    my $body = body('paths', 204800);

    for my $fault (qw(closed reset http_502 http_504)) {
        set(forge => $fault);
        ask('paths', '200 paths -', $fault, content => $body,
            server => $spool) for 1 .. 4;
        is tried(), 'paths - paths', 'no other machine';
        got('spark', ($body) x 4);
        cmp_ok asked('forge'), '>', 0, 'a path has failed';
        is asked('anvil'), 0;

        $spark->behave(%{$fault{$fault}});
        ask('paths', '200 anvil ' . ($fault =~ /http/ ? $fault : 'error'),
            'both have');
    }

    for my $fault (qw(http_404 http_429 http_503)) {
        set(forge => $fault, spark => $fault);
        ask('paths', "200 anvil $fault", "$fault: another machine");
        is $forge->requests + $spark->requests, 1, 'one path, one time';
        ask('counted', "200 anvil $fault", 'a word') for 1 .. 4;
        set();
        ask('counted', '200 counted -', 'is no failure of a path');
    }

    set(forge => 'http_502', spark => 'http_502');
    ask('counted', '200 anvil http_502', '502 is one');
    set();
    ask('counted', '200 anvil no_live', 'that is remembered');

    my @tried = map { ask('skip', '200 skip -', 'a dead path');
                      (logged())[3] } 1 .. 6;
    like join(';', @tried[0, 1]), qr/, /, 'it is tried';
    unlike join(';', @tried[2 .. 5]), qr/, /, 'and then no more';

    ask('gone', '200 anvil error', 'both are dead');
    is tried(), 'gone,anvil error anvil';
    ask('gone', '200 anvil no_live', 'which is known then');
    is tried(), 'anvil no_live anvil';
    ask('spare', '200 spare -', 'backup') for 1 .. 2;
};


subtest 'TLS, and whose secrets' => sub {
    my $ok = { status => 200, body => { ok => 1 }, all => 1 };
    my @names = qw(authorization cf-access-client-id cf-access-client-secret
                   host x-hybrid-client x-key);
    my $seen = sub {
        my ($b, $sni, %expected) = @_;
        my $h = $b->last->{header};
        my %got = map { exists $h->{$_} ? ($_ => $h->{$_}) : () } @names;
        is_deeply \%got, \%expected, "$b->{name}: its own headers";
        is $b->last->{sni}, $sni, 'SNI';
    };
    my @carol = (as => $client{carol});
    my @who = ('x-hybrid-client' => 'carol');

    # the second time with a connection or a session of the first
    for my $server (1, $spool, 1) {
        my $body = body('tls', 204800);
        set(forge => 'http_503', home => 'http_404', vertex => $ok);
        ask('tls', '200 vertex http_503', 'HTTP, HTTPS, HTTPS',
            content => $body, server => $server, @carol);
        got($_, $body) for qw(forge home vertex);
        is $vertex->last->{target}, '/base/api/generate', 'its path';

        $seen->($forge, undef, host => 'forge.test',
                'x-key' => 'secret-forge', @who);
        $seen->($home, 'home.test', host => 'home.test', @who,
                'cf-access-client-id' => 'secret-id',
                'cf-access-client-secret' => 'secret-home');
        $seen->($vertex, 'vertex.test', host => 'vertex.test',
                authorization => 'Bearer secret-vertex');

        set(vertex => { status => 503, all => 1 });
        ask('back', '200 forge http_503', 'and back', @carol);
        $seen->($forge, undef, host => 'localhost:11434', @who);
        is $forge->last->{target}, '/api/generate';
    }

    set(forge => 'http_404', home => {});
    ask('named', '200 named http_404', 'a name in the URL', server => $spool);
    $seen->($home, 'localhost', host => "localhost:$home->{port}",
            'x-hybrid-client' => 'alice');
    set(home => {});
    ask('only', '502 wrong -', 'not its name');
    ask('wrong', '200 anvil error', 'the next one');
    ask('fake', '200 anvil error', 'not our CA');
    is asked(qw(home fake)), '0 0', 'they have seen nothing';
};


subtest 'egress at each hop' => sub {
    my @carol = (as => $client{carol});
    my %reason = (http_404 => 404, http_503 => 503, closed => 502);

    for my $fault (sort keys %reason) {
        set(forge => $fault, vertex => { status => 200, all => 1 });
        ask('cloudy', "$reason{$fault} forge -", "local, $fault");
        ask('away', '502 off1 -', 'local, dead');
        ask('uphill', '503 - -', 'local, down');
        is asked('vertex'), 0, 'the cloud saw nothing';

        ask('cloudy', '200 vertex ' . ($fault =~ s/closed/error/r), 'any',
            @carol);
        ask('away', '200 vertex error', 'any, dead', @carol);
        ask('uphill', '200 vertex no_live', 'any, down', @carol);
        is asked('vertex'), 3;
    }
};


subtest 'another name for one candidate' => sub {
    for my $case (@sizes) {
        my ($size, $server) = @$case;
        my $body = body('ren', $size);

        set(forge => 'http_404', anvil => 'http_503');
        ask('ren', '200 spark http_404', "$size bytes", content => $body,
            server => $server);
        got($_, $body) for qw(forge spark);
        got('anvil', renamed($body));
        is $anvil->last->{header}{'content-length'}, length renamed($body);
    }
};


subtest 'a stale connection' => sub {
    set();
    ask('kept', '200 kept -', 'one to keep');

    for my $case (@sizes) {
        my ($size, $server) = @$case;
        my $body = body('kept', $size);
        my $before = $forge->last->{connection};

        set(forge => { close_before_header => \1, times => 1 });
        ask('kept', '200 kept -', "$size bytes: the same machine",
            content => $body, server => $server);
        is tried(), 'kept - kept';
        got('forge', (renamed($body)) x 2);
        is(($forge->requests)[0]{connection}, $before, 'it was a kept one');
        is asked('anvil'), 0, 'nobody else';
    }

    set(forge => { close_before_header => \1, times => 2 });
    ask('kept', '200 anvil error', 'a new one breaks, too');
    is asked(qw(forge anvil)), '2 1';

    ask('kept', '200 kept -', 'one to keep');
    $forge->stop;
    $forge->start;
    ask('kept', '200 kept -', 'a restart between two');
    set(forge => 'timeout');
    ask('kept', '200 anvil timeout', 'silence is not stale', server => $slow);
    is asked(qw(forge anvil)), '1 1';
};


subtest 'administration stays' => sub {
    my @pull = (path => '/api/pull', as => $client{root}, server => $slow);

    set(forge => { %{$fault{timeout}}, all => 1 });
    ask('dead', '502 off1 -', 'refused', @pull);
    ask('thendown', '503 - -', 'down', @pull);
    ask('two', '504 forge -', 'silent', @pull);
    set();
    ask('kept', '200 kept -', 'one to keep');
    $forge->behave(close_before_header => \1, all => 1);
    ask('kept', '502 kept -', 'stale', @pull);
    is asked(qw(anvil spark)), '0 0';
};


subtest 'fewer tries' => sub {
    set();
    ask('two', '200 forge -', 'well again');

    for my $server ($single, $off) {
        for my $case ([ http_503 => 503 ], [ closed => 502 ]) {
            set(forge => $case->[0]);
            ask('two', "$case->[1] forge -", 'one', server => $server);
            is asked(qw(forge anvil)), '1 0';
        }

        ask('thendown', '502 off1 no_live', 'what is down costs none',
            server => $server);
    }

    set(forge => 'http_404', anvil => 'http_503');
    ask('three', '503 anvil http_404', 'two', server => $pair);
    is asked(qw(forge anvil spark)), '1 1 0';
};


subtest 'two workers' => sub {
    ok $t->stop;
    $t->start(%o, workers => 2);

    for my $case ([ qw(two forge 503) ], [ qw(kept kept 503) ],
                  [ qw(two forge 404) ], [ qw(kept kept 502) ])
    {
        my ($model, $first, $status) = @$case;
        my $body = body($model, 30000);
        my $lines = join "\r\n", 'POST /api/generate HTTP/1.1', 'Host: x',
            'X-Request-Id: w', 'Content-Length: ' . length $body,
            'Connection: close', $t->auth_lines . "\r\n$body";
        my %n;

        # half of what is asked at once is refused by the first
        set(forge => { %{$fault{"http_$status"}}, times => 20 });
        my @s = map { $t->open } 1 .. 40;
        $_->send($lines) for @s;

        for my $text (map { $_->read_until } @s) {
            my @got = $text =~ /^(?:HTTP\S+|X-Hybrid-\S+:) (\S+)/mg;
            $n{"@got"}++;
        }

        is_deeply \%n, { "200 $first" => 20, "200 anvil http_$status" => 20 },
                  "$model, $status";
    }

    my %pids = map { $_ => 1 } $t->log('access.log') =~ /^w .* (\d+)\|$/mg;
    is keys %pids, 2, 'both workers took part';
};


$t->done;
