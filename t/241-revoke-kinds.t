# Revocations of certificates and JWTs, on connections that go on, too.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use HybridRedis ();
use HybridTls;
use Test::More;

my $t = Hybrid->new;
my $redis = HybridRedis::redis(name => 'redis');
my $forge = $t->backend('forge', models => 'a');
my $ca = HybridTls->ca($t, 'root');
my $gw = $ca->issue(subject => '/CN=gw', san => [ 'DNS:gw' ]);
my $tool = ($ENV{HYBRID_ROOT} || '.') . '/tools/hybrid-token';

my %cert = map { $_ => $ca->issue(san => [ "DNS:$_.test" ]) } qw(alice bob);
my $again = $ca->issue(san => [ 'DNS:alice.test' ]);

# a token of one issuer, and of another with the same names
my %key = map { $_ => HybridJwt->key('ES256', kid => $_) } qw(home work);
my $service = '88bf3b6d86161464f6509f7219099e57.access';

$t->file("$_.json", jwks($key{$_})) for keys %key;

sub issuer {
    my ($name) = @_;
    return "hybrid_issuer $name { issuer https://$name.test;"
           . " audience gateway; jwks $t->{dir}/$name.json;"
           . " algorithms ES256; }\n"
           . "hybrid_client carol-$name { jwt $name sub=carol; models *; }\n";
}

sub jwt {
    my ($issuer, %o) = @_;
    return $key{$issuer}->mint(claims(iss => "https://$issuer.test",
                                      sub => 'carol', %o));
}

my $issuers = issuer('home') . issuer('work');

$t->start(workers => 2, http => <<"END");
    hybrid_redis 127.0.0.1:$redis->{port} timeout=200ms;
    hybrid_client alice { cert san=alice.test; models *; }
    hybrid_client bob { cert san=bob.test; models *; }
    $issuers
    hybrid_client robot { jwt work common_name=$service; models *; }
    hybrid_backend forge { pass http://$forge->{addr}; }
    hybrid_route * forge;

    server {
        listen 127.0.0.1:%PORT% ssl;
        ssl_certificate $gw->{cert};
        ssl_certificate_key $gw->{key};
        ssl_verify_client optional;
        ssl_client_certificate $ca->{cert};

        location / { hybrid_access mtls jwt; include %PROXY%; }
    }
END

sub change {
    my (@args) = @_;
    is system('sh', $tool, @args, '--redis', "127.0.0.1:$redis->{port}"), 0,
       "@args";
}

# of some requests, which two workers answer
sub with_cert {
    my ($cert, $status) = @_;
    for (1 .. 8) {
        my $c = HybridTls->connect($t, cert => $cert) or return 0;
        my $r = $c->ask('GET', '/api/tags') or return 0;
        return 0 if $r->{status} != $status;
    }
    return 1;
}


subtest 'a certificate' => sub {
    my $open = HybridTls->connect($t, cert => $cert{alice});
    is $open->ask('GET', '/api/tags')->{status}, 200, 'at first';

    change('revoke', 'cert', $cert{alice}{colons});
    ok poll { with_cert($cert{alice}, 401) }, 'is refused';
    is $open->ask('GET', '/api/tags')->{status}, 401,
       'on an open connection, too';
    ok with_cert($cert{bob}, 200), 'another is not';
    ok with_cert($again, 200), 'nor another of the same client';
    like $t->log('error.log'), qr/\[info\] .*the certificate is revoked/,
         'the log says why';

    change('restore', 'cert', $cert{alice}{sha256});
    ok poll { with_cert($cert{alice}, 200) }, 'restored';

    change('revoke', 'client', 'alice');
    ok poll { with_cert($cert{alice}, 401) && with_cert($again, 401) },
       'the client: all of them';
    ok with_cert($cert{bob}, 200), 'another is not';
};

# a token is sent often, so that it is remembered
sub with_jwt {
    my ($jwt, $status) = @_;
    for (1 .. 8) {
        my $c = HybridTls->connect($t) or return 0;
        my $r = $c->ask('GET', '/api/tags',
                        headers => [ [ Authorization => "Bearer $jwt" ] ])
            or return 0;
        return 0 if $r->{status} != $status;
    }
    return 1;
}


subtest 'a JWT' => sub {
    my $id = 'urn:uuid:0:1';
    my ($one, $other, $none) = (jwt('home', jti => $id),
        jwt('home', jti => "$id:2"), jwt('home'));
    my $elsewhere = jwt('work', jti => $id);
    ok with_jwt($_, 200), 'at first' for $one, $other, $none, $elsewhere;

    change('revoke', 'jti', 'home', $id);
    ok poll { with_jwt($one, 401) }, 'is refused, although remembered';
    ok with_jwt($_, 200), 'another is not' for $other, $none, $elsewhere;

    change('restore', 'jti', 'home', $id);
    ok poll { with_jwt($one, 200) }, 'restored';
};


subtest 'a subject' => sub {
    my @of_carol = (jwt('home', jti => 'a'), jwt('home'));
    my ($elsewhere, $robot) = (jwt('work'), jwt('work', sub => '',
                                                common_name => $service));
    ok with_jwt($_, 200), 'at first' for @of_carol, $elsewhere, $robot;

    change('revoke', 'sub', 'home', 'carol');
    ok poll { with_jwt($of_carol[0], 401) }, 'is refused';
    ok with_jwt($of_carol[1], 401), 'whatever the token';
    ok with_jwt($_, 200), 'another is not' for $elsewhere, $robot;

    change('revoke', 'sub', 'work', $service);
    ok poll { with_jwt($robot, 401) }, 'a service of Cloudflare Access';
    ok with_jwt($elsewhere, 200), 'another is not';

    change('restore', 'sub', 'home', 'carol');
    ok poll { with_jwt($of_carol[0], 200) }, 'restored';

    change('revoke', 'client', 'carol-work');
    ok poll { with_jwt($elsewhere, 401) }, 'the client';
};

$t->done;
