# Client certificates: who is it, by what, and who only looks like it.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridTls;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'a');
my $ca = HybridTls->ca($t, 'root');
my $inter = HybridTls->ca($t, 'inter', under => $ca);
my $other = HybridTls->ca($t, 'other');
my $fake = HybridTls->ca($t, 'fake', subject => '/CN=root');
my $leaf = HybridTls->ca($t, 'leaf', cert => $ca->issue);
my $gw = $ca->issue(subject => '/CN=gw', san => [ 'DNS:gw' ]);
my $token = $t->token('frank');
my $spiffe = 'spiffe://home.test/ns/rag/sa/lightrag';

# names of types that OpenSSL's configuration would not write like that
sub der {
    my $names = join '', map { chr($_->[0]) . chr(length $_->[1]) . $_->[1] }
                         @_;
    return unpack 'H*', "\x30" . chr(length $names) . $names;
}

my ($email, $dns, $uri) = (0x81, 0x82, 0x86);

my %cert = (
    alice => $ca->issue(san => [ 'DNS:x.test', 'DNS:Alice.TEST' ]),
    bob => $inter->issue(subject => '/CN=bob', chain => 1),
    carol => $ca->issue(subject => '/O=Home/CN=Carol C'),
    dave => $ca->issue(san => [ "URI:$spiffe" ]),
    erin => $ca->issue(san => [ 'email:Erin@home.test' ]),
    both => $ca->issue(subject => '/CN=both',
                       san => [ 'DNS:both.test', 'URI:urn:both' ]),
    half => $ca->issue(subject => '/CN=both', san => [ 'DNS:both.test' ]),
    first => $ca->issue(san => [ 'DNS:first.test' ]),
    second => $ca->issue(san => [ 'DNS:second.test' ]),
    twins => $ca->issue(san => [ 'DNS:first.test', 'DNS:alice.test' ]),
);

my @clients = map { my ($name, @lines) = @$_;
                    "hybrid_client $name { @lines models *; }\n" }
    ([ alice => 'cert san=alice.test;' ],
     [ bob => "cert sha256=$cert{bob}{colons};" ],
     [ carol => 'cert subject="CN=Carol C,O=Home";' ],
     [ dave => "cert san=$spiffe;" ],
     [ erin => 'cert san=email:Erin@home.test;' ],
     [ both => 'cert san=uri:urn:both subject="CN=both" san=dns:both.test;' ],
     [ multi => 'cert san=first.test;', 'cert san=SECOND.test;' ],
     [ frank => $token->{line}, 'cert sha256=' . '0' x 64 . ';' ]);

my $who = '"$hybrid_client $hybrid_auth $hybrid_reason"';

sub server {
    my ($port, $verify, $more, $ca_file) = @_;
    $ca_file ||= $ca->{cert};
    return <<"END";
    server {
        listen 127.0.0.1:$port ssl;
        ssl_certificate $gw->{cert};
        ssl_certificate_key $gw->{key};
        ssl_verify_client $verify;
        ssl_client_certificate $ca_file;
        ssl_verify_depth 3;
        ssl_protocols TLSv1.2 TLSv1.3;
        add_header X-Who $who always;
        $more
    }
END
}

# to the last connection of the old worker
sub renewed {
    my @old = Hybrid::_workers($t->{pid});
    return $t->reload && poll { !grep { kill 0, $_ } @old };
}

sub here { "location / { hybrid_access $_[0]; include %PROXY%; }" }

my %reload = (http => join "\n", @clients,
    "hybrid_backend forge { pass http://$forge->{addr}; }",
    'hybrid_route * forge;',
    'log_format c "$hybrid_client $hybrid_auth";',
    'ssl_session_cache shared:sessions:1m;',
    server('%PORT%', 'optional', here('token mtls')),
    server('%PORT2%', 'on', here('mtls')),
    server('%PORT3%', 'optional_no_ca', 'set $ssl_client_verify SUCCESS;'
           . here('mtls token')),
    server('%PORT4%', 'optional', here('token')),
    server('%PORT5%', 'optional', 'server_name other.test;' . here('mtls'),
           $other->{cert}),
    server('%PORT5%', 'optional', 'server_name home.test;' . here('mtls')),
    server('%PORT6% http2', 'optional', here('mtls')),
    server('%PORT7%', 'optional', "ssl_crl $t->{dir}/lists.pem;\n"
           . "ssl_session_tickets off;\n" . here('mtls')),
    server('%PORT8%', 'optional', "ssl_crl $t->{dir}/lists.pem;\n"
           . "ssl_session_ticket_key $t->{dir}/ticket.key;\n" . here('mtls')));

$t->file('ticket.key', pack 'N*', map { int rand 2 ** 32 } 1 .. 20);
$ca->crl('lists.pem', $inter);
$t->start(%reload);

# a connection that outlives its certificate: it is asked again later
my $short = HybridTls->connect($t, cert => $ca->issue(ends => 12, san =>
                                                   [ 'DNS:alice.test' ]));
my $still = $short->ask('GET', '/api/tags');

# "status client auth reason" of a request on a connection of its own
sub who {
    my (%o) = @_;
    $o{cert} = $cert{$o{cert}} if $o{cert} && !ref $o{cert};
    $o{port} = $t->port($o{port});
    my $c = HybridTls->connect($t, %o) or return 'no handshake';
    my $r = $c->ask('GET', '/api/tags', %o) or return 'closed';
    my $text = "$r->{status} " . ($r->{headers}{'x-who'} // '');
    $text =~ s/ +/ /g;
    $text =~ s/ $//;
    $text = "reused $text" if $c->reused;
    return $text;
}

# in the log, without all of it when it is not
sub said { my ($regex, $note) = @_; ok $t->log('error.log') =~ $regex,
                                       $note || "said $regex" }

my $unknown = '403 mtls client_unknown';
my $nobody = '401 unauthenticated';


subtest 'each kind of name' => sub {
    for my $version (qw(TLSv1_2 TLSv1_3)) {
        my %o = (version => $version);

        for my $name (qw(alice bob carol dave erin both)) {
            is who(%o, cert => $name), "200 $name mtls", "$version $name";
        }

        is who(%o, cert => $_), '200 multi mtls', "$version, the $_ line"
            for qw(first second);
        is who(%o, cert => 'half'), $unknown, 'one of three conditions short';
        is who(%o, cert => 'twins'), '403 mtls client_ambiguous', 'ambiguous';
        is who(%o), $nobody, 'none';
        is who(%o, cert => 'alice', port => 2), '200 alice mtls', 'on';
        is who(%o, port => 2), '400', 'on, none';
    }

    said(qr/\[warn\] .*fits "cert" lines of several cli/,
         'an ambiguous one is in the log');
    said(qr/\[info\] .*sha256=$cert{half}{sha256} fits /,
         'an unknown one, too');

    $forge->clear;
    my $c = HybridTls->connect($t, cert => $cert{bob});
    is $c->ask('POST', '/api/generate', content => '{"model":"a"}')->{status},
       200;
    is $forge->last->{header}{'x-hybrid-client'}, 'bob', 'to the backend';
};


subtest 'what only looks like it' => sub {
    my %names = (
        'NUL behind' => [ $dns, "alice.test\0" ],
        'NUL within' => [ $dns, "alice.test\0.evil.test" ],
        'NUL first' => [ $dns, "\0alice.test" ],
        'newline' => [ $dns, "alice.test\n" ],
        'blank' => [ $dns, 'alice.test ' ],
        'dot' => [ $dns, 'alice.test.' ],
        'wildcard' => [ $dns, '*.test' ],
        'longer' => [ $dns, 'alice.test.evil' ],
        'shorter' => [ $dns, 'alice.tes' ],
        'subdomain' => [ $dns, 'a.alice.test' ],
        'a DNS name as URI' => [ $uri, 'alice.test' ],
        'a DNS name as email' => [ $email, 'alice.test' ],
        'a URI as DNS name' => [ $dns, $spiffe ],
        'another case in a URI' => [ $uri, 'SPIFFE' . substr $spiffe, 6 ],
        'more path' => [ $uri, "$spiffe/x" ],
        'a query' => [ $uri, "$spiffe?" ],
        'NUL in a URI' => [ $uri, "$spiffe\0" ],
        'NUL in an address' => [ $email, "Erin\@home.test\0" ],
        'another case in an address' => [ $email, 'erin@home.test' ],
        'an address as URI' => [ $uri, 'Erin@home.test' ],
        'empty' => [ $dns, '' ]);

    for my $name (sort keys %names) {
        my $cert = $ca->issue(subject => '/CN=alice.test',
                              san => der($names{$name}));
        is who(cert => $cert), $unknown, $name;
    }

    # a directoryName and an otherName with the text in it
    my $text = "alice.test";
    my $inner = "\x0c" . chr(length $text) . $text;
    my $oid = "\x06\x03\x55\x04\x03";
    my $other = $oid . "\xa0" . chr(length $inner) . $inner;
    is who(cert => $ca->issue(san => der([ 0xa0, $other ]))), $unknown,
       'otherName';

    (my $path = $spiffe) =~ s{/}{\\/}g;
    my @subjects = ('/CN=Carol C,O=Home', '/CN=Carol C/O=Home',
        '/O=Home/CN=carol c', '/O=Home/CN=Carol C/CN=x', '/CN=Carol C',
        '/O=Home/O=Home/CN=Carol C', '/O=Home/CN=Carol  C',
        '/CN=alice.test', "/CN=$path", '/emailAddress=Erin@home.test',
        "/O=Home\\/CN=Carol C", '/O=Home+CN=Carol C');

    for my $subject (@subjects) {
        my $cert = $ca->issue(subject => $subject);
        is who(cert => $cert), $unknown, $cert->{dn};
    }
};


subtest 'what is not verified' => sub {
    my %same = (san => [ 'DNS:alice.test' ]);
    my %bad = ('another CA' => $other->issue(%same),
               'a CA of the same name' => $fake->issue(%same),
               'signed by itself' => $ca->issue(%same, self => 1),
               'expired' => $ca->issue(%same, ends => -10),
               'not from a CA' => $leaf->issue(%same, chain => 1));
    my $lost = $inter->issue(subject => '/CN=bob');

    for my $name (sort keys %bad) {
        for my $port (1, 2, 3) {
            my $got = who(cert => $bad{$name}, port => $port);
            my $is = $port == 3 && $name !~ /expired/ ? $nobody : 400;
            is $got, $is, "$name, port $port";
        }
    }

    is who(cert => $lost), 400, 'no intermediate';
    is who(cert => 'alice', port => 3), '200 alice mtls', 'optional_no_ca';

    # the token is the only credential then
    my @auth = (headers => [ [ Authorization => $token->{bearer} ] ]);
    is who(cert => $bad{'another CA'}, port => 3, @auth), '200 frank token',
       'one that does not count, and a token';
    said(qr/not authenticated: unable to verify the first certificate/);
};


subtest 'other credentials' => sub {
    my @auth = (headers => [ [ Authorization => $token->{bearer} ] ]);
    my @wrong = (headers => [ [ Authorization => 'Bearer a:b' ] ]);

    is who(@auth), '200 frank token', 'a token alone';
    is who(@auth, cert => 'alice'), $nobody, 'both';
    is who(@auth, cert => 'half'), $nobody, 'both, one of nobody\'s';
    is who(@wrong, cert => 'alice'), $nobody, 'a wrong token, too';
    said(qr/not authenticated: two kinds of credentials/);
    is who(@auth, cert => 'alice', port => 2), '200 alice mtls',
       'a token that the location does not accept';
    is who(@auth, cert => 'alice', port => 4), '200 frank token',
       'a certificate that it does not accept';
    is who(cert => 'alice', port => 4), $nobody;

    my @said = (headers => [ map { [ $_ => 'SUCCESS' ] }
        qw(X-SSL-Client-Verify SSL-Client-Verify Ssl_Client_Verify) ]);
    is who(@said), $nobody, 'a header that says so';
};


subtest 'several servers at one address' => sub {
    my $evil = $other->issue(san => [ 'DNS:alice.test' ]);
    my %o = (port => 5);

    is who(%o, cert => 'alice', host => 'home.test'), '200 alice mtls';
    is who(%o, cert => $evil, host => 'home.test'), 400, 'its own CA only';
    is who(%o, cert => $evil, host => 'other.test'), '200 alice mtls',
       'whose CA vouches for it';

    # who shakes hands with one server does not talk to the other
    my $c = HybridTls->connect($t, port => $t->port(5), cert => $evil);
    is $c->ask('GET', '/api/tags', host => 'other.test')->{status}, 200;
    is $c->ask('GET', '/api/tags', host => 'home.test')->{status}, 401,
       'without SNI';
    is $c->ask('GET', '/api/tags', host => 'other.test')->{status}, 200;
    said(qr/certificate was verified for another server/);

    $c = HybridTls->connect($t, port => $t->port(5), cert => $evil,
                            host => 'other.test');
    is $c->ask('GET', '/api/tags', host => 'home.test')->{status}, 421,
       'with SNI';
};


subtest 'many requests' => sub {
    my $c = HybridTls->connect($t, cert => $cert{alice});
    my %seen;

    $seen{($c->ask('GET', '/api/tags') || {})->{headers}{'x-who'} // 'x'}++
        for 1 .. 100;
    is_deeply \%seen, { 'alice mtls ' => 100 }, 'on one connection';

    # a credential that comes later is no better
    is $c->ask('GET', '/api/tags', headers =>
               [ [ Authorization => $token->{bearer} ] ])->{status}, 401;
    is $c->ask('GET', '/api/tags')->{headers}{'x-who'}, 'alice mtls ';

    SKIP: {
        skip 'no HTTP/2 here', 1 if $t->run(qw(curl -V)) !~ /\bHTTP2\b/;
        my $url = 'https://127.0.0.1:' . $t->port(6) . '/api/tags';
        my $text = $t->run(qw(curl -sSk --http2 -o /dev/null -w),
            '%{http_version} %{num_connects} %header{x-who}\n', '--cert',
            $cert{bob}{cert}, '--key', $cert{bob}{key}, ($url, '-o',
            '/dev/null') x 3);
        my @lines = $t->run(qw(curl -sSk --http2 -D - --cert),
            $cert{bob}{cert}, '--key', $cert{bob}{key}, $url, $url, $url)
            =~ /^x-who: (.*?)\s*$/mgi;
        is_deeply \@lines, [ ('bob mtls') x 3 ], 'HTTP/2';
    }
};


subtest 'a certificate that ends' => sub {
    plan skip_all => 'a slow machine' if !$still || $still->{status} != 200;
    my $r;
    poll {
        sleep 0.2;
        $r = $short->ask('GET', '/api/tags');
        !$r || $r->{status} != 200;
    };
    is $r && $r->{status}, 401, 'on an open connection';
    said(qr/not authenticated: certificate has expired/);
};


subtest 'sessions and revocation' => sub {
    my %session;
    my $fresh = $ca->issue(san => [ 'DNS:alice.test' ]);
    my $revoked = $ca->issue(san => [ 'DNS:alice.test' ]);
    my $deep = $inter->issue(san => [ 'DNS:alice.test' ], chain => 1);
    my $open = HybridTls->connect($t, port => $t->port(7), cert => $revoked);
    my %all = (fresh => $fresh, revoked => $revoked, deep => $deep,
               bob => $cert{bob});

    my $each = sub {
        my ($note, %is) = @_;

        for my $port (7, 8) {
            for my $version (qw(TLSv1_2 TLSv1_3)) {
                for my $name (sort keys %all) {
                    my %o = (cert => $all{$name}, port => $port,
                             version => $version);
                    my $session = $session{"$name $port $version"} ||= {};
                    $o{session} = $session if $note ne 'new';
                    is who(%o), $is{$name} // $is{all},
                       "$note: $name, port $port, $version";
                }
            }
        }
    };

    $all{$_}{client} = $_ eq 'bob' ? 'bob' : 'alice' for keys %all;
    my %good = map { $_ => "200 $all{$_}{client} mtls" } keys %all;
    my %again = map { $_ => "reused $good{$_}" } keys %all;

    $each->('first', %good);
    $each->('again', %again);
    is $open->ask('GET', '/api/tags')->{status}, 200, 'a kept connection';

    $ca->revoke($revoked);
    $inter->revoke($deep);
    $ca->crl('lists.pem', $inter);
    ok renewed(), 'reload';

    # sessions survive it, and nginx does not look at certificates again
    $each->('after', %again, revoked => "reused $nobody",
            deep => "reused $nobody");
    $each->('new', %good, revoked => '400', deep => '400');
    is $open->ask('GET', '/api/tags'), undef, 'a connection of before';
    said(qr/not authenticated: certificate revoked/);

    # and so do sessions whose certificate was not in any list
    $t->file('lists.pem', $t->log('root.crl'));
    ok renewed(), 'a list is missing';
    is who(cert => $cert{bob}, port => 7, version => 'TLSv1_2',
           session => $session{'bob 7 TLSv1_2'}), "reused $nobody",
       'not known to be good';
};


$t->done;
