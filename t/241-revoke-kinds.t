# Revocations of certificates and JWTs, on connections that go on, too.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
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

$t->start(workers => 2, http => <<"END");
    hybrid_redis 127.0.0.1:$redis->{port} timeout=200ms;
    hybrid_client alice { cert san=alice.test; models *; }
    hybrid_client bob { cert san=bob.test; models *; }
    hybrid_backend forge { pass http://$forge->{addr}; }
    hybrid_route * forge;

    server {
        listen 127.0.0.1:%PORT% ssl;
        ssl_certificate $gw->{cert};
        ssl_certificate_key $gw->{key};
        ssl_verify_client optional;
        ssl_client_certificate $ca->{cert};

        location / { hybrid_access mtls; include %PROXY%; }
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

$t->done;
