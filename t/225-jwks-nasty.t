# Key servers that hang, lie, break off or are somebody else: their answers
# are never taken, the reason is told, and no request waits meanwhile.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use HybridOdd;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $b = $t->backend('b', models => 'm');
my $ca = $t->ca;
my $cert = $t->cert($ca, '127.0.0.1');
my $main = HybridOdd->new($t, 'main', tls => $cert);
my $key = HybridJwt->key('ES256', kid => 'k1');
my $evil = HybridJwt->key('ES256', kid => 'k1', of => 'evil');
my $set = jwks($key);
my $bad = jwks($evil);
my $ok = "HTTP/1.1 200 OK\r\n";

my $good = HybridOdd::text(200, $set, 'Content-Length' => length $set);

sub chunk { return join '', map { sprintf "%x\r\n%s\r\n", length, $_ } @_ }
sub steps { return [ map { ref $_ ? $_ : { send => $_ } } @_ ] }
sub body { return HybridOdd::text(@_) }

# a set of the attacker's that a lenient reader would take, and what is said

my %answers = (
    html => [ steps(body(200, '<html>Sign in</html>',
                         'Content-Type' => 'text/html')), qr/not JSON/ ],
    empty => [ steps(body(200, '', 'Content-Length' => 0)), qr/not JSON/ ],
    other_json => [ steps(body(200, '{"error":"x"}')), qr/no list "keys"/ ],
    no_keys => [ steps(body(200, '{"keys":[]}')), qr/no usable key/ ],
    secret_only => [ steps(body(200,
        jwks(HybridJwt->key('HS256', kid => 'h')))), qr/no usable key/ ],
    cut_json => [ steps(body(200, substr $bad, 0, -1)), qr/not JSON/ ],
    quoted => [ steps(body(200, "\x01\e[31m\r\nfaked")), qr/not JSON/ ],

    (map { ("status_$_" => [ steps(body($_, $bad)), qr/status $_/ ]) }
        201, 206, 301, 302, 307, 400, 403, 404, 429, 500, 503, 999),
    redirect => [ steps(body(302, $bad, Location => '/good')),
                  qr/status 302/ ],
    interim => [ steps("HTTP/1.1 100 Continue\r\n\r\n" . body(200, $bad)),
                 qr/not of HTTP/ ],

    large => [ steps("${ok}Content-Length: 10485760\r\n\r\n",
                     { fill => 10485760 }), qr/larger than 1048576/ ],
    large_close => [ steps("$ok\r\n", { fill => 10485760 }),
                     qr/larger than 1048576/ ],
    large_chunk => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\n"
                           . "a00000\r\n", { fill => 10485760 }),
                     qr/larger than 1048576/ ],
    trailers => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\n"
                        . chunk($bad) . "0\r\nX: ", { fill => 10485760 }),
                  qr/does not end/ ],
    extension => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\n1;",
                         { fill => 10485760 }), qr/does not end/ ],

    cut_length => [ steps("${ok}Content-Length: " . (1 + length $bad)
                          . "\r\n\r\n$bad"), qr/cut off/ ],
    cut_chunk => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\n"
                         . chunk($bad)), qr/cut off/ ],
    cut_last => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\n"
                        . chunk($bad) . "0\r\n"), qr/cut off/ ],
    cut_header => [ steps("${ok}Content-Le"), qr/cut off/ ],
    cut_tls => [ steps("$ok\r\n$bad"), qr/unexpected eof|cut off/i,
                 abrupt => 1 ],
    nothing => [ [], qr/no answer/ ],
    reset => [ [ { send => "$ok\r\n$bad" }, { reset => 1 } ],
               qr/reset by|cut off|no answer|eof/i, abrupt => 1 ],

    bad_chunk => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\nx\r\n$bad"),
                   qr/chunks/ ],
    long_chunk => [ steps("${ok}Transfer-Encoding: chunked\r\n\r\n"
                          . 'f' x 17 . "\r\n$bad"), qr/chunks|larger/ ],
    both => [ steps("${ok}Transfer-Encoding: chunked\r\nContent-Length: "
                    . length($bad) . "\r\n\r\n" . chunk($bad, '')),
              qr/length or encoding/ ],
    two_lengths => [ steps(body(200, $bad, 'Content-Length' => length $bad,
        'content-length' => 5)), qr/length or encoding/ ],
    (map { ("length_$_" => [ steps(body(200, $bad, 'Content-Length' => $_)),
                             qr/length or encoding/ ]) }
        '-1', '1,1', '0x10', '1e3', '99999999999999999999', ''),
    (map { ("te_$_" => [ steps("${ok}Transfer-Encoding: $_\r\n\r\n"
                               . chunk($bad, '')), qr/length or encoding/ ]) }
        'gzip', 'gzip, chunked', 'identity', 'chunked, chunked'),
    gzip => [ steps(body(200, $bad, 'Content-Encoding' => 'gzip')),
              qr/length or encoding/ ],

    ssh => [ steps("SSH-2.0-OpenSSH_9.2\r\n"), qr/not of HTTP/ ],
    bare => [ steps($bad), qr/not of HTTP/ ],
    status_line => [ steps("HTTP/1.1 2 OK\r\n\r\n$bad"), qr/not of HTTP/ ],
    long_line => [ steps("HTTP/1.1 200 " . 'x' x 20000), qr/not of HTTP/ ],
    long_header => [ steps("${ok}X: " . 'x' x 20000 . "\r\n\r\n$bad"),
                     qr/invalid or too large/ ],
    many_headers => [ steps($ok . "X: y\r\n" x 100 . "\r\n$bad"),
                      qr/invalid or too large/ ],
    null_header => [ steps("${ok}X: a\0b\r\n\r\n$bad"),
                     qr/invalid or too large/ ],

    hang => [ [ { hang => 1 } ], qr/waiting for an answer timed out/ ],
    hang_header => [ [ { send => "${ok}Content-Ty" }, { hang => 1 } ],
                     qr/reading the answer timed out/ ],
    hang_body => [ [ { send => "${ok}\r\n{" }, { hang => 1 } ],
                   qr/reading the answer timed out/ ],
    drip => [ [ { drip => body(200, $bad), pause => .3 } ],
              qr/timed out/ ],
);

# those that never get to HTTP have a server each

my $foreign = $t->cert($t->ca('foreign'), '127.0.0.1');
my $self = $t->ca('127.0.0.1');
my $expired = $t->cert($ca, '127.0.0.1');

$t->_openssl(qw(x509 -req -days -1 -CAcreateserial -in),
    $expired->{cert} =~ s/pem$/csr/r, '-CA', $ca->{cert},
    '-CAkey', $ca->{key}, '-extfile', $expired->{cert} =~ s/pem$/ext/r,
    '-out', $expired->{cert});

my %servers = (
    foreign => [ { cert => $foreign }, qr/certificate is not valid: unable/ ],
    self => [ { cert => $self }, qr/certificate is not valid: self/ ],
    expired => [ { cert => $expired },
                 qr/certificate is not valid: certificate has expired/ ],
    other_host => [ { cert => $t->cert($ca, '127.0.0.2', 'example.org') },
                    qr/not valid: it is not for "127.0.0.1"/ ],
    name_only => [ { cert => $t->cert($ca, 'localhost') },
                   qr/not valid: it is not for "127.0.0.1"/ ],
    plain => [ { cert => undef }, qr/SSL_do_handshake|TLS handshake/ ],
    hang_tls => [ { accept => 'hang' }, qr/TLS handshake timed out/ ],
    close_tls => [ { accept => 'close' },
                   qr/closed connection|SSL_do_handshake|reset/ ],
);

my (%url, %odd, %token, @names);

for my $name (sort keys %answers) {
    my $path = '/' . $name =~ s/\W/_/gr;
    $url{$name} = "https://$main->{addr}$path";
    $main->path($path, steps => steps($good));
}

for my $name (sort keys %servers) {
    $odd{$name} = HybridOdd->new($t, "odd_$name", tls => $cert);
    $odd{$name}->steps({ send => $good });
    $url{$name} = "https://$odd{$name}{addr}/";
}

@names = sort keys %url;
my %index = map { $names[$_] => $_ } 0 .. $#names;

my $issuers = join '', map { <<"END" } @names;
hybrid_issuer i$index{$_} {
    issuer https://i$index{$_}.test;
    audience gateway;
    jwks $url{$_};
    trusted_certificate $ca->{cert};
    algorithms ES256;
    refresh 2s cooldown=2s stale=1h;
}
hybrid_client c$index{$_} { jwt i$index{$_} sub=alice; models *; }
END

$token{$_} = $key->mint(claims(iss => "https://i$index{$_}.test",
                               exp => time + 3600)) for @names;
my $forged = { map { ($_ => $evil->mint(claims(
    iss => "https://i$index{$_}.test"))) } qw(status_302 redirect foreign) };

$t->start(workers => 2, http => <<"END");
hybrid_zone 16m;
$issuers
hybrid_backend b { pass http://$b->{addr}; models m; }
hybrid_route * b;
server {
    listen 127.0.0.1:%PORT%;
    location / { hybrid_access jwt; include %PROXY%; }
    location = /status { hybrid_status json; }
}
END

sub shown { return { map { ($_->{name} => $_) }
                     @{$t->get('/status')->{json}{issuers}} } }
sub of { my ($shown, $name) = @_; return $shown->{"i$index{$name}"} }
sub ask {
    my ($jwt) = @_;
    return $t->get('/api/version', headers => {
        Authorization => "Bearer $jwt" })->{status};
}

sub all_pass {
    my ($what) = @_;
    my ($slow, @refused) = (0);

    for my $name (@names) {
        my $start = time;
        push @refused, $name if ask($token{$name}) != 200;
        $slow = time - $start if time - $start > $slow;
    }

    is("@refused", '', "$what: all tokens pass");
    cmp_ok($slow, '<', 3, sprintf 'at once: %.3f s', $slow);
}

ok(poll { my $s = shown(); !grep { !$_->{keys} } values %$s },
   scalar(@names) . ' key sets are there')
    or diag(explain(shown()));
all_pass('before');

# now they turn

for my $name (sort keys %answers) {
    my ($steps, undef, %more) = @{$answers{$name}};
    $main->path('/' . $name =~ s/\W/_/gr, steps => $steps, %more);
}

$odd{$_}->mode(%{$servers{$_}[0]}) for keys %servers;

sub refused { return (grep { !of($_[0], $_)->{failures} } @names) == 0 }

my $end = time + 60;
my $rounds = 0;

do {
    all_pass('round ' . ++$rounds);
    sleep 1;
} until refused(shown()) || time > $end;

my $shown = shown();

for my $name (@names) {
    my $error = ($answers{$name} || $servers{$name})->[1];
    like(of($shown, $name)->{error}, $error, $name);
    is(of($shown, $name)->{keys}, 1, 'has the keys of before');
}

is(ask($forged->{$_}), 401, "$_: no key of the answer was taken")
    for sort keys %$forged;

my @redirected = grep { $_->{line} =~ m{ /good } } $main->requests;
is(scalar @redirected, 0, 'no redirect was followed');

my $log = $t->log('error.log');

for my $name (@names) {
    my $warn = () = $log =~ /\[warn\].*key set of issuer "i$index{$name}":/g;
    is($warn, 1, "$name: one warning");
}

unlike($log, qr/\[(?:alert|crit|error)\]/, 'nothing worse');
unlike($log, qr/[^\x20-\x7e\n]/, 'nor bytes of the answers');

# the very same worker again

for my $name (sort keys %answers) {
    $main->path('/' . $name =~ s/\W/_/gr, steps => steps($good));
}

$odd{$_}->mode(accept => undef, cert => $cert) for keys %servers;

ok(poll { my $s = shown(); !grep { $_->{failures} } values %$s },
   'all are well again')
    or diag(explain([ grep { $_->{failures} } values %{shown()} ]));
all_pass('after');

# odd but right

my @right = (
    sub { "HTTP/1.0 200\r\n\r\n$_[0]" },
    sub { "$ok\r\n$_[0]" },
    sub { "${ok}content-LENGTH:   " . length($_[0]) . "  \r\n\r\n$_[0] more" },
    sub { "${ok}Transfer-Encoding: Chunked\r\n\r\n"
          . chunk(split //, $_[0]) . "0;x=y\r\nX: y\r\n\r\n" },
    sub { { drip => "${ok}Content-Type: text/plain\r\nX_y: 1\r\n(): 1\r\n"
          . "Content-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"
          . "\r\n" . chunk(unpack '(a16)*', $_[0]) . "0\r\n\r\n",
            pause => .002 } },
    sub { "HTTP/1.1 200 OK\nX: y\nContent-Length: " . length($_[0])
          . "\n\n$_[0]" },
    sub { ("${ok}Content-Length: " . (900_000 + length $_[0]) . "\r\n\r\n",
           ' ' x 900_000, $_[0]) },
);

for my $n (0 .. $#right) {
    my $new = HybridJwt->key('ES256', kid => "right $n");
    my $jwt = $new->mint(claims(iss => "https://i$index{html}.test"));

    $main->path('/html', steps => steps($right[$n]->(jwks($new))));
    ok(poll { ask($jwt) == 200 }, "odd answer $n is taken")
        or diag(explain(of(shown(), 'html')));
}

my $start = time;
$t->stop;
cmp_ok(time - $start, '<', 5, 'nginx ends');

$t->done;
