# JWTs: every algorithm, every way to say who it is, and what is remembered.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridBlocks ();
use HybridJwt;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $b = $t->backend('b', models => 'm');

my %key = map { $_ => HybridJwt->key($_, kid => "k-$_") }
              qw(RS256 RS384 RS512 PS256 ES256 ES384 EdDSA);
my %secret = map { $_ => HybridJwt->key('HS256', secret => "$_-secret" x 4,
                                        $_ eq 'third' ? (kid => 'third') : ()) }
                 qw(first second third);
my $cf = HybridJwt->key('RS256', kid => 'cf');
my $next = HybridJwt->key('RS256', kid => 'cf-next');
my $other = HybridJwt->key('ES256', kid => 'k-ES256', of => 'other');

$t->file('set.json', jwks(values %key));
$t->file('cf.json', jwks($cf, $next->jwk(alg => undef)));
$t->file('other.json', jwks($other));
$t->file($_, $secret{$_}{secret} . "\n") for keys %secret;

my $lightrag = '88bf3b6d86161464f6509f7219099e57.access';
my $tag = '4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2';
my $token = $t->token('servant');

$t->start(http => <<"END");
    # before its issuer
    hybrid_client alice { jwt all sub=alice; models *; }

    hybrid_issuer all {
        issuer https://issuer.test;
        audience gateway another;
        jwks $t->{dir}/set.json;
        algorithms RS256 RS384 RS512 PS256 ES256 ES384 EdDSA HS256;
        secret $t->{dir}/first;
        secret $t->{dir}/second;
        secret $t->{dir}/third kid=third;
    }
    hybrid_issuer strict {
        issuer https://strict.test;
        audience gateway;
        jwks $t->{dir}/set.json;
        algorithms ES256;
        leeway 0s;
    }
    hybrid_issuer second {
        issuer https://other.test;
        audience gateway;
        jwks $t->{dir}/other.json;
        algorithms ES256;
    }
    hybrid_issuer access {
        issuer https://team.cloudflareaccess.com;
        audience $tag;
        jwks $t->{dir}/cf.json;
        algorithms RS256;
        header Cf-Access-Jwt-Assertion;
    }

    hybrid_client strict { jwt strict sub=alice; models *; }
    hybrid_client second { jwt second sub=alice; models *; }
    hybrid_client lightrag { jwt access common_name=$lightrag; models *; }
    hybrid_client people {
        jwt access email=a\@example.org;
        jwt access email=b\@example.org country=DE;
        models *;
    }
    hybrid_client admins {
        jwt all groups=admin dept=it;
        jwt all https://claims.example.org/role=chief;
        models *;
    }
    hybrid_client both { jwt all groups=one groups=two; models *; }
    hybrid_client left { jwt all left=x; jwt all left=y; models *; }
    hybrid_client right { jwt all right=x; models *; }
    hybrid_client servant { $token->{line} models *; }

    # failures of one address are told of less and less
    set_real_ip_from 127.0.0.1;
    real_ip_header X-From;

    hybrid_backend b { pass http://$b->{addr}; models m; }
    hybrid_route * b;

    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access jwt; include %PROXY%; }
    }
    server {
        listen 127.0.0.1:%PORT2%;
        location / { hybrid_access token jwt; include %PROXY%; }
    }
    server {
        listen 127.0.0.1:%PORT3%;
        location / { hybrid_access token; include %PROXY%; }
    }
END

sub cf_claims {
    claims(iss => 'https://team.cloudflareaccess.com', aud => [$tag],
           type => 'app', sub => '', common_name => $lightrag, @_);
}

my $from = 0;

sub from { sprintf '10.0.%d.%d', ++$from / 256, $from % 256 }

sub ask {
    my ($jwt, %o) = @_;
    my $header = $o{header} || 'Authorization';

    $jwt = "Bearer $jwt" if $header eq 'Authorization';
    return $t->get('/', headers => { $header => $jwt,
                   'X-From' => from(), %{$o{more} || {}} },
                   port => $t->port($o{port} || 1));
}

# what came of it: the client's name, or the status and the reason
sub who {
    my $r = ask(@_);

    return $b->last->{header}{'x-hybrid-client'} if $r->{status} == 200;
    return "$r->{status} $r->{headers}{'x-hybrid-reason'}";
}

my $tail = 0;

sub said {
    my $text = substr $t->log('error.log'), $tail;
    $tail += length $text;
    return $text;
}

sub unknown {
    my ($jwt, $name) = @_;
    is who($jwt), '403 client_unknown', "nobody: $name";
}
sub refused {
    my ($why, @ask) = @_;
    said();
    is who(@ask), '401 unauthenticated', "refused: $why";
    like said(), qr/not authenticated: \Q$why\E/, 'for that reason';
}


subtest algorithms => sub {
    for my $alg (sort keys %key) {
        my $jwt = $key{$alg}->mint(claims());

        is who($jwt), 'alice', $alg;
        is who($jwt), 'alice', "$alg, again";
        is who($key{$alg}->mint(claims(sub => 'bob'))), '403 client_unknown',
           "$alg, for bob";
    }

    for my $name (sort keys %secret) {
        is who($secret{$name}->mint(claims())), 'alice',
           "HS256, the $name secret";
    }

    refused('JWT of issuer "all": wrong signature',
            $secret{third}->mint(claims(), header => { kid => undef }));
    refused('JWT of issuer "all": wrong signature',
            $secret{first}->mint(claims(), header => { kid => 'third' }));
};


subtest header => sub {
    my $key = $key{ES256};

    for my $typ ('JWT', 'jwt', 'at+jwt', 'AT+JWT', 'application/jwt',
                 'application/at+jwt', undef)
    {
        is who($key->mint(claims(), header => { typ => $typ })), 'alice',
           'typ ' . ($typ // 'left out');
    }

    is who($key->mint(claims(), header => { jku => 'https://evil.test/',
           jwk => {}, x5c => [], x5u => 'https://evil.test/', foo => 'bar' })),
       'alice', 'what is not understood is ignored';
    is who($key->mint(claims(), header => '{ "kid" : "k-\u0045S256" ,'
           . "\n" . ' "alg" : "ES\u003256" }')), 'alice', 'escapes, spaces';
    is who($key->mint(claims(), header => { typ => 'JWT' })), 'alice', 'alice';
};


subtest claims => sub {
    my $key = $key{ES256};
    my $mint = sub { $key->mint(claims(@_)) };
    my $now = time;

    is who($mint->(aud => $_)), 'alice', 'aud ' . Hybrid::encode($_)
        for 'another', ['gateway'], ['x', 'another'], ['gateway', 'gateway'];

    is who($mint->(exp => $now - 50)), 'alice', 'exp within the leeway';
    is who($mint->(nbf => $now + 50)), 'alice', 'nbf within the leeway';
    is who($mint->(iat => $now + 50)), 'alice', 'iat within the leeway';
    is who($mint->(iat => undef)), 'alice', 'no iat';
    is who($mint->(nbf => $now - 5, jti => 'x' x 128)), 'alice', 'nbf, jti';
    is who($mint->(exp => $now + 300.5)), 'alice', 'exp with a fraction';

    my $text = HybridJwt::encode(claims(exp => 4242));
    for my $exp ('1e11', '9.9e10', '100000000000.000', '99999999999') {
        is who($key->mint($text =~ s/4242/$exp/r)), 'alice', "exp $exp";
    }

    is who($key->mint('{ "ISSUER": {"iss":"x","iss":"y"}, '
           . substr($text =~ s/4242/99999999999/r, 1))), 'alice',
       'names inside of others';

    unknown($mint->(sub => undef), 'no sub');
    unknown($mint->(sub => 'alic'), 'a part of the name');
    unknown($mint->(sub => 'Alice'), 'the name in another case');
    unknown($mint->(sub => 'alice@'), 'more than the name');
};


subtest clients => sub {
    my $mint = sub { $key{ES256}->mint(claims(sub => 'x', @_)) };
    my $role = 'https://claims.example.org/role';

    is who($mint->(groups => ['a', 'admin'], dept => 'it')), 'admins',
       'a member of a list and a string';
    is who($mint->(groups => 'admin', dept => ['it'])), 'admins',
       'a string, and a list with it';
    is who($mint->($role => 'chief')), 'admins', 'the other line';
    is who($mint->($role => 'chief', groups => 'admin', dept => 'it')),
       'admins', 'both lines';
    is who($mint->(groups => ['two', 'three', 'one'])), 'both',
       'two values of one claim';

    unknown($mint->(groups => ['admin']), 'one of two');
    unknown($mint->(groups => ['admin'], dept => $_), 'dept '
            . Hybrid::encode($_))
        for 'IT', 'its', 'i', '', 1, undef, [['it']], [{}, 'it'],
            { it => 'it' }, [ 'admin', 1, 'it' ];
    unknown($mint->(groups => ['one']), 'half');
    unknown($mint->("$role/" => 'chief'), 'nearly the name');

    said();
    is who($mint->(left => 'x', right => 'x')), '403 client_ambiguous',
       'two clients';
    like said(), qr/\[warn\].*for "x" fits client "left" and client "right"/,
         'are named';
    is who($mint->(left => ['x', 'y'])), 'left', 'two lines of one client';
};


subtest issuers => sub {
    my $claims = claims(iss => 'https://other.test');

    is who($other->mint($claims)), 'second', 'the other issuer, the same kid';
    is who($key{ES256}->mint(claims())), 'alice', 'and this one';
    refused('JWT of issuer "second": wrong signature',
            $key{ES256}->mint($claims));
    refused('JWT of issuer "all": wrong signature', $other->mint(claims()));
    refused('JWT of issuer "second": the header\'s "alg" is not the issuer\'s',
            $key{RS256}->mint($claims));
    refused('JWT: "iss" is not known here',
            $cf->mint(cf_claims()));
    refused('JWT: "iss" is not known here', $cf->mint(claims(iss => $_)))
        for 'https://issuer.test/', 'https://issuer.tes', '',
            'HTTPS://issuer.test', 'x' x 300, undef, ['https://issuer.test'];
};


subtest 'Cloudflare Access' => sub {
    my @h = (header => 'Cf-Access-Jwt-Assertion');
    my %user = (sub => '7335d417-61da-459d-899c-0a01c76a2f94',
                email => 'a@example.org', common_name => undef,
                identity_nonce => '6ei69kawdKzMIAPF', country => 'US');

    is who($cf->mint(cf_claims()), @h), 'lightrag', 'a service token';
    is who($cf->mint(cf_claims()), @h), 'lightrag', 'again';
    is who($next->mint(cf_claims()), @h), 'lightrag', 'the next key';
    is who($cf->mint(cf_claims(aud => $tag)), @h), 'lightrag', 'aud alone';
    is who($cf->mint(cf_claims(type => undef)), @h), 'lightrag', 'no type';
    is who($cf->mint(cf_claims(%user)), @h), 'people', 'a user';
    is who($cf->mint(cf_claims(%user, email => 'b@example.org',
           country => 'DE')), @h), 'people', 'a user in a country';
    is who($cf->mint(cf_claims(%user, email => 'b@example.org')), @h),
       '403 client_unknown', 'a user in another country';

    refused('JWT of issuer "access": "type" is not "app"',
            $cf->mint(cf_claims(type => $_)), @h) for 'org', 'App', 1;
    refused('JWT: "iss" is not known here', $key{RS256}->mint(claims()), @h);
    is who($key{RS256}->mint(claims(type => 'org'))), 'alice',
       'another issuer may say what it wants';

    # remembered, but in its own header

    my $jwt = $cf->mint(cf_claims());
    is who($jwt, @h), 'lightrag', 'in its header';
    refused('JWT: "iss" is not known here', $jwt);
    is who($jwt, @h), 'lightrag', 'in its header, still';
};


subtest credentials => sub {
    my $jwt = $key{ES256}->mint(claims());
    my $assertion = $cf->mint(cf_claims());
    my $cf = 'Cf-Access-Jwt-Assertion';

    is who($jwt, port => 2), 'alice', 'a JWT where tokens are good, too';
    is $t->get('/', as => $token, port => $t->port(2))->{status},
       200, 'a token where JWTs are good, too';
    is who($assertion, header => $cf, port => 2), 'lightrag', 'Access';

    refused('wrong id or secret', 'nobody:secret', port => 2);
    refused('JWT: it has less than three parts', 'nobody', port => 2);
    refused('JWT: it has less than three parts',
            $token->{bearer} =~ s/Bearer //r);
    refused('the key is not "<id>:<secret>"', $jwt, port => 3);
    refused('no credential', $assertion, header => $cf, port => 3);
    refused('no credential', $jwt, header => 'X-Api-Key');
    refused('the key is not "<id>:<secret>"', $jwt, header => 'X-Api-Key',
            port => 2);
    refused('two kinds of credentials', $jwt, more => { $cf => $assertion });
    refused('two kinds of credentials', $jwt, more => { $cf => '' });
    refused('two kinds of credentials', $jwt, port => 2,
            more => { 'X-Api-Key' => $token->{bearer} });
    refused('two kinds of credentials', $assertion, header => $cf, port => 2,
            more => { Authorization => $token->{bearer} });
    for my $twice ("$cf: $assertion\r\n" x 2,
                   "$cf: $assertion\r\n" . lc($cf) . ":\r\n")
    {
        said();
        like $t->raw("GET / HTTP/1.1\r\nHost: a\r\n$twice"
                     . 'X-From: ' . from() . "\r\n"
                     . "Connection: close\r\n\r\n"),
             qr{^HTTP/1.1 401 }, 'twice';
        like said(), qr/not authenticated: duplicate credentials/, 'it says';
    }

    my $r = $t->get('/', as => $token, port => $t->port(3),
                    headers => { $cf => 'whatever' });
    is $r->{status}, 200, 'what a location does not accept is ignored';
    is $b->last->{header}{lc $cf}, undef, 'and does not travel on';

    is who($jwt), 'alice', 'a JWT';
    is $b->last->{header}{authorization}, undef, 'which does not travel on';

    is who($assertion, header => $cf), 'lightrag', 'an assertion';
    is $b->last->{header}{lc $cf}, undef, 'which does not travel on';
    refused('no credential', '', header => 'X-Other');
};


subtest 'the end of what is remembered' => sub {
    my $strict = sub { $key{ES256}->mint(claims(iss => 'https://strict.test',
                                                @_)) };
    my $end = time + 3;
    my $jwt = $strict->(exp => $end);

    is who($jwt), 'strict', 'before the end';
    is who($jwt), 'strict', 'remembered';

    poll { time >= $end };
    sleep 0.1;

    refused('JWT of issuer "strict": it has expired', $jwt) for 1, 2;

    my $begin = time + 3;
    my $early = $strict->(nbf => $begin);

    refused('JWT of issuer "strict": it is not valid yet', $early);
    poll { time >= $begin };
    sleep 0.1;
    is who($early), 'strict', 'after its beginning';

    refused('JWT of issuer "strict": it has expired', $strict->(exp => time));
    refused('JWT of issuer "strict": it was issued in the future',
            $strict->(iat => time + 5));
};


subtest 'more than can be remembered' => sub {
    my $key = $secret{first};
    my @jwt = map { $key->mint(claims(jti => "n$_")) } 0 .. 1499;
    my $n = 0;

    # some on each connection
    my @all = (@jwt, @jwt[0 .. 99]);

    while (my @some = splice @all, 0, 20) {
        my $text = join '', map { "GET / HTTP/1.1\r\nHost: a\r\n"
                   . "Authorization: Bearer $_\r\n\r\n" } @some;

        $text =~ s/\r\n\z/Connection: close\r\n\r\n/;
        $n += () = $t->raw($text) =~ m{HTTP/1\.1 200 }g;
    }

    is $n, 1600, 'all are accepted';
    refused('JWT of issuer "all": wrong signature',
            $secret{third}->mint(claims(jti => 'n1'),
                                 header => { kid => undef }));
};


subtest reload => sub {
    my $jwt = $key{RS256}->mint(claims());

    is who($jwt), 'alice', 'before';
    ok $t->reload, 'reload';
    is who($jwt), 'alice', 'after';
};

$t->done;
