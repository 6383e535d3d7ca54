# What "nginx -t" says about client certificates.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridTls;
use Test::More;

my $t = Hybrid->new;
my $ca = HybridTls->ca($t, 'root');
my $gw = $ca->issue(subject => '/CN=gw', san => [ 'DNS:gw' ]);
my $sha256 = 'ab' x 32;
my $token = $t->token('x');

sub conf {
    my ($clients, $server, $location) = @_;
    $server //= 'ssl_verify_client optional;';
    $location //= 'hybrid_access mtls;';
    return (http => <<"END");
$clients
hybrid_backend b { pass http://127.0.0.1:1; }
hybrid_route * b;
server {
    listen 127.0.0.1:%PORT% ssl;
    ssl_certificate $gw->{cert};
    ssl_certificate_key $gw->{key};
    ssl_client_certificate $ca->{cert};
    $server
    location / { $location include %PROXY%; }
}
END
}

sub client { my ($lines, $name) = @_;
             return 'hybrid_client ' . ($name || 'a') . " { $lines models *; }"
}

sub refused {
    my ($name, $is, @conf) = @_;
    my $text = $t->start_fails(conf(@conf)) // 'accepted';
    my ($got) = $text =~ /\[emerg\] (?:\d+#\d+: )?(.*)/;
    like $got // $text, qr/^\Q$is\E.* in \S+nginx\.conf:\d+$/, $name;
}

sub accepted {
    my ($name, @conf) = @_;
    is $t->start_fails(conf(@conf)), undef, $name;
}


subtest 'lines' => sub {
    (my $line = $token->{line}) =~ s/;$//;
    my $colons = join ':', ('AB') x 32;

    accepted($_, client("cert $_;")) for "sha256=$sha256", "sha256=$colons",
        'san=a.test', 'san=dns:a', 'san=uri:urn:a', 'san=spiffe://a/b',
        'san="spiffe://a/b"', 'san=a@b.c', 'san=email:a@b.c', 'subject=CN=a',
        'subject="CN=a"', 'subject="CN=A B,O=C  D"', '"subject=CN=A B,O=C"',
        'subject="CN=A\, Inc.,O=X"', "san=a.test san=b.test sha256=$sha256",
        'san=a.test; cert san=b.test', "san=a.test; $line";

    my $digest = 'invalid fingerprint "%s", it must be 64 hexadecimal digits';
    refused("sha256=$_", sprintf($digest, $_), client("cert sha256=$_;"))
        for substr($sha256, 1), "${sha256}0", "${sha256}:", ":$sha256",
            'g' . substr($sha256, 1), 'sha256:' . $sha256, "a:b" x 22,
            'SHA256=' . $sha256, 'AB::' . 'AB' x 31;

    my $subject = 'invalid subject "%s", it must be as in';
    refused("subject $_", sprintf($subject, $_), client("cert subject=\"$_\";"))
        for '/CN=a', 'CN = a', 'CN=a, O=b', 'a', "CN=M\xc3\xbcller";

    my $name = 'invalid name "%s" in "san=", it must be a DNS name, a URI or';
    refused("san $_", sprintf($name, s/^(?:dns|uri|email)://r),
            client("cert san=$_;"))
        for '10.0.0.1', '1234', 'a/b', 'a:b', 'uri:a', 'email:a',
            "m\xc3\xbcller.test";

    refused('a wildcard', 'invalid name "*.test": there are no wildcards',
            client('cert san=*.test;'));
    refused('a wildcard in a URI', 'invalid name "spiffe://a/*": there are no',
            client('cert san=spiffe://a/*;'));
    refused('a quote', 'no closing quote in "subject="CN=A"',
            client('cert subject="CN=A B;'));
    refused($_, "invalid parameter \"$_\", it must be \"sha256=\"",
            client("cert $_;"))
        for 'a.test', 'san', 'cn=a', 'sha1=ab', 'SAN=a';
    refused('an empty name', 'invalid name "" in "san="',
            client('cert san=;'));
    refused('nothing', 'invalid number of arguments in "cert"',
            client('cert;'));
    refused('no credential', 'client "a" has no credential', client(''));

    my $twice = 'a "cert" line has the same condition twice';
    refused($_, $twice, client("cert $_;"))
        for 'san=a.test san=A.test', "sha256=$sha256 sha256=" . 'cd' x 32,
            'subject=CN=a san=b.test subject=CN=b';
};


subtest 'two clients' => sub {
    my $b = 'this "cert" line belongs to client "b" already';

    for my $pair ([ ("sha256=$sha256") x 2 ],
                  [ "sha256=$sha256", 'sha256=' . uc join ':', ('ab') x 32 ],
                  [ 'san=a.test', 'san=dns:A.TEST' ],
                  [ 'san=a.test subject=CN=a', 'subject="CN=a" san=a.test' ],
                  [ 'san=a://b san=a.test', 'san=a.test san=uri:a://b' ])
    {
        refused("@$pair", $b, client("cert $pair->[0];", 'b')
                              . client("cert $pair->[1];"));
    }

    refused('the same client', 'this "cert" line belongs to client "a"',
            client('cert san=a.test; cert san=a.test;'));
    accepted('others', client('cert san=a.test;')
             . client('cert san=a.test subject=CN=a;', 'b')
             . client('cert san=uri:urn:a;', 'c'));
};


subtest 'where nobody is asked' => sub {
    my $one = client('cert san=a.test;');
    my $is = '"hybrid_access mtls" lets nobody in where clients are not asked';

    refused('off', $is, $one, '');
    refused('off, by the server', $is, $one, 'hybrid_access mtls;', '');
    accepted($_, $one, "ssl_verify_client $_;")
        for qw(on optional optional_no_ca);
    accepted('off, not in use', $one, 'hybrid_access mtls;',
             'hybrid_access token;');

    $t->start_fails(conf($one, 'hybrid_access token mtls;
        location /a { include %PROXY%; } location /b { include %PROXY%; }',
        ''));
    my $text = $t->log('test.out');
    my $warn = qr/\[warn\] .*"hybrid_access mtls" in \S+:\d+, but clients are/;
    is scalar(() = $text =~ /$warn/g), 1, 'one warning for a server';
};


$t->done;
