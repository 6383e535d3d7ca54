# Tokens that must not get in, each with the reason for which it does not.
# All but the first part of them are signed well: it is not the signature
# that keeps those out.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use Math::BigInt;
use Test::More;

my $t = Hybrid->new;
my $b = $t->backend('b', models => 'm');

my %key = map { $_ => HybridJwt->key($_, kid => "k-$_") }
              qw(RS256 RS384 PS256 ES256 ES384 EdDSA);
my $rs = $key{RS256};
my $es = $key{ES256};
my $hs = HybridJwt->key('HS256', kid => 'k-HS256');
my $evil = { map { $_ => HybridJwt->key($_, kid => "k-$_", whose => 'evil') }
                 qw(RS256 ES256 EdDSA) };

$t->file('set.json', jwks(values %key));
$t->file('secret', "$hs->{secret}\n");
$t->file('other', 'another-secret' x 4);
$t->file('rs.json', jwks($rs));

$t->start(http => <<"END");
    hybrid_issuer all {
        issuer https://issuer.test;
        audience gateway;
        jwks $t->{dir}/set.json;
        algorithms RS256 RS384 PS256 ES256 ES384 EdDSA HS256;
        secret $t->{dir}/secret kid=k-HS256;
        secret $t->{dir}/other;
    }
    hybrid_issuer rs {
        issuer https://rs.test;
        audience gateway;
        jwks $t->{dir}/rs.json;
        algorithms RS256;
    }
    hybrid_client alice {
        jwt all sub=alice;
        jwt all kind=any;
        jwt rs sub=alice;
        models *;
    }
    # failures of one address are told of less and less
    set_real_ip_from 127.0.0.1;
    real_ip_header X-From;

    hybrid_backend b { pass http://$b->{addr}; models m; }
    hybrid_route * b;

    server {
        listen 127.0.0.1:%PORT%;
        large_client_header_buffers 4 32k;
        location / { hybrid_access jwt; include %PROXY%; }
    }
END

my $good = $es->mint(claims());
my ($h, $p, $s) = split /\./, $good;
my ($raw_h, $raw_p, $raw_s) = map { unb64($_) } $h, $p, $s;
my $claims = HybridJwt::encode(claims());

# undef is for what is left out
my $null = '~null~';
sub json { HybridJwt::encode($_[0]) =~ s/"$null"/null/gr }

my %why = (
    less => 'JWT: it has less than three parts',
    more => 'JWT: it has more than three parts',
    part => 'JWT: it has an empty part',
    long => 'JWT: it is longer than 8 KiB',
    h64 => 'JWT: the header is not base64url',
    p64 => 'JWT: the payload is not base64url',
    s64 => 'JWT: the signature is not base64url, or too long',
    header => 'JWT: the header is not a JSON object',
    h_twice => 'JWT: the header has a name twice, or nearly',
    crit => 'JWT: the header has "crit"',
    b64 => 'JWT: the header has "b64"',
    zip => 'JWT: the header has "zip"',
    typ => 'JWT: the header\'s "typ" is not "JWT" or "at+jwt"',
    alg => 'JWT: the header\'s "alg" is none that is known',
    kid => 'JWT: the header\'s "kid" is not a string, empty or too long',
    payload => 'JWT: the payload is not a JSON object',
    p_twice => 'JWT: the payload has a claim twice, or nearly',
    zero => 'JWT: the payload has a zero byte in a string',
    iss => 'JWT: "iss" is not known here',
    map({ $_->[0] => qq(JWT of issuer "all": $_->[1]) }
        [ key_alg => 'the header\'s "alg" is not the key\'s' ],
        [ unknown => '"kid" is not known' ],
        [ length => 'the signature has the wrong length' ],
        [ wrong => 'wrong signature' ],
        [ read => "the payload can't be read" ],
        [ aud => '"aud" is for others' ],
        [ aud_type => '"aud" is neither a string nor a list' ],
        [ aud_list => '"aud" is not a list of strings' ],
        [ no_exp => 'there is no "exp"' ],
        [ exp => '"exp" is not a time' ],
        [ expired => 'it has expired' ],
        [ nbf => '"nbf" is not a time' ],
        [ early => 'it is not valid yet' ],
        [ iat => '"iat" is not a time' ],
        [ future => 'it was issued in the future' ],
        [ sub => '"sub" is not a string' ],
        [ sub_long => 'the subject is too long' ],
        [ sub_chars => 'the subject has other characters' ],
        [ cn => '"common_name" is not a string' ],
        [ jti => '"jti" is not a string' ],
        [ jti_long => '"jti" is too long' ],
        [ jti_chars => '"jti" has other than visible characters' ]),
    no_kid => 'JWT of issuer "rs": there is no "kid"',
    rs => 'JWT of issuer "rs": the header\'s "alg" is not the issuer\'s',
);

my @tokens;

sub hostile { push @tokens, [ @_ ] }

# the same with another header, another payload
sub header {
    my ($header) = @_;

    if (ref $header) {
        my %header = (alg => 'ES256', typ => 'JWT', kid => 'k-ES256',
                      %$header);

        delete $header{$_} for grep { !defined $header{$_} } keys %header;
        $header = json(\%header);
    }

    return $es->mint(claims(), header => $header);
}

sub with { payload(json(claims(@_))) }
sub payload { $es->mint($_[0]) }

# text instead of a value of the payload
sub text { my ($name, $text) = @_;
           payload($claims =~ s/"$name":[^,}]*/"$name":$text/r) }


# alg: nobody's choice

for my $alg ('none', 'None', 'NONE', 'nOnE', 'none ', '', 'es256', 'ES256 ',
             'ES512', 'ES256K', 'HS384', 'HS512', 'RS1', 'PS384', 'RSA1_5',
             'A128KW', 'dir', 'Ed25519', 'ES256' . "\0", 'x' x 300)
{
    hostile(alg => qq(alg "$alg"), header({ alg => $alg, kid => 'k-ES256' }));
}

hostile(part => 'alg none, no signature', b64('{"alg":"none"}') . ".$p.");
hostile(alg => 'alg none, some signature', b64('{"alg":"none"}') . ".$p.AAAA");
hostile(alg => "alg $_", header(qq({"alg":$_,"kid":"k-ES256"})))
    for 'null', '0', 'true', '["ES256"]', '{"ES256":1}', '256';
hostile(alg => 'no alg', header({ alg => undef, kid => 'k-ES256' }));
hostile(key_alg => 'another alg for the key: ES384',
        header({ alg => 'ES384', kid => 'k-ES256' }));
hostile(key_alg => 'another alg for the key: EdDSA',
        header({ alg => 'EdDSA', kid => 'k-ES256' }));

my $public = { PEM => $rs->public('PEM'), DER => $rs->public('DER'),
               modulus => unb64($rs->jwk->{n}), n => $rs->jwk->{n},
               nothing => '', jwk => HybridJwt::encode($rs->jwk) };

for my $form (sort keys %$public) {
    my $forger = HybridJwt->key('HS256', kid => 'k-RS256',
                                secret => $public->{$form});

    hostile(key_alg => "HS256 by the public key ($form)",
            $forger->mint(claims()));
    hostile(wrong => "HS256 by the public key ($form), no kid",
            $forger->mint(claims(), header => { kid => undef }));
    hostile(wrong => "HS256 by the public key ($form), a secret's kid",
            $forger->mint(claims(), header => { kid => 'k-HS256' }));
    hostile(wrong => "RS256 in the header, HMAC ($form)",
            $forger->mint(claims(), header => { alg => 'RS256' },
                          signature => 'x' x 256)) if $form eq 'PEM';
}

hostile(rs => 'HS256 for an issuer that has none',
        $hs->mint(claims(iss => 'https://rs.test')));
hostile(rs => 'ES256 for an issuer that has RS256',
        with(iss => 'https://rs.test'));
hostile(rs => 'PS256 for an issuer that has RS256',
        $rs->mint(claims(iss => 'https://rs.test'), alg => 'PS256',
                  header => { alg => 'PS256' }));
hostile(key_alg => 'PS256 by the key for RS256',
        $rs->mint(claims(), alg => 'PS256', header => { alg => 'PS256' }));
hostile(wrong => 'PSS, said to be RS256', $rs->mint(claims(), alg => 'PS256'));
hostile(wrong => 'PKCS #1, said to be PS256',
        $key{PS256}->mint(claims(), alg => 'RS256'));
hostile(key_alg => 'RS384 by the key for RS256',
        $rs->mint(claims(), alg => 'RS384', header => { alg => 'RS384' }));
hostile(wrong => 'SHA-384, said to be RS256',
        $rs->mint(claims(), alg => 'RS384'));
hostile(wrong => 'SHA-256, said to be RS384',
        $key{RS384}->mint(claims(), alg => 'RS256'));
hostile(key_alg => 'RS256 with the kid of ES256',
        $rs->mint(claims(), header => { kid => 'k-ES256' }));
hostile(key_alg => 'ES256 with the kid of RS256',
        header({ kid => 'k-RS256', alg => 'ES256' }));
hostile(wrong => "$_ by somebody else", $evil->{$_}->mint(claims()))
    for sort keys %$evil;


# kid

hostile(unknown => qq(kid "$_"), header({ kid => $_ }))
    for 'k-es256', 'K-ES256', 'k-ES256 ', ' k-ES256', 'k-ES25', 'k-ES256x',
        '../../../dev/null', '/etc/passwd', "k-ES256' OR '1'='1",
        "x' UNION SELECT 'key", "k-ES256\0", "k-ES256\0x", '*', 'k-*', '0',
        'file:///dev/null', 'https://evil.test/key', '| id', "k-ES256\n";
hostile(kid => "kid $_", header(qq({"alg":"ES256","kid":$_})))
    for '""', '0', 'null', 'true', '["k-ES256"]', '{"kid":"k-ES256"}', '1e3';
hostile(kid => 'a kid too long', header({ kid => 'x' x 257 }));
hostile(key_alg => 'no kid', header({ kid => undef }));
hostile(no_kid => 'no kid, and no secret without one',
        $rs->mint(claims(iss => 'https://rs.test'),
                  header => { kid => undef }));
hostile(unknown => "the secret's kid without its k",
        $hs->mint(claims(), header => { kid => '-HS256' }));
hostile(h_twice => 'another kid before',
        header('{"alg":"ES256","kid":"x","kid":"k-ES256"}'));
hostile(h_twice => 'another kid after',
        header('{"alg":"ES256","kid":"k-ES256","kid":"x"}'));
hostile(h_twice => 'the same kid twice',
        header('{"alg":"ES256","kid":"k-ES256","kid":"k-ES256"}'));
hostile(h_twice => "kid twice, as $_",
        header(qq({"alg":"ES256","kid":"k-ES256","$_":"x"})))
    for '\u006bid', 'k\u0069d', 'KID', 'Kid', "\xe2\x84\xaaid", '\u212aid';
hostile(h_twice => "alg twice, as $_",
        header(qq({"alg":"ES256","kid":"k-ES256","$_":"none"})))
    for 'alg', '\u0061lg', 'Alg', 'ALG';


# what a header offers

my $offer = $evil->{ES256};

for my $more ({ jwk => $offer->jwk }, { jku => 'https://evil.test/set' },
              { x5u => 'https://evil.test/cert' }, { x5c => ['MIIB'] },
              { x5t => 'AAAA', 'x5t#S256' => 'AAAA' })
{
    my ($name) = sort keys %$more;
    hostile(wrong => "a key by $name", $offer->mint(claims(),
                                                    header => $more));
    hostile(key_alg => "a key by $name, no kid",
            $offer->mint(claims(), header => { %$more, kid => undef }));
}

hostile(crit => 'crit ' . HybridJwt::encode($_), header({ crit => $_ }))
    for ['exp'], [], 'exp', ['b64'], $null, 0;
hostile(b64 => "b64 $_", header(qq({"alg":"ES256","kid":"k-ES256","b64":$_})))
    for 'false', 'true', 'null', '0', '""';
hostile(crit => 'b64 as it should be', header({ crit => ['b64'],
                                                b64 => JSON::PP::false }));
hostile(zip => 'zip ' . HybridJwt::encode($_), header({ zip => $_ }))
    for 'DEF', '', $null;
hostile(typ => 'typ ' . HybridJwt::encode($_), header({ typ => $_ }))
    for 'JWE', 'JOSE', 'dpop+jwt', 'logout+jwt', 'JWT ', '', 'application/',
        'application/application/jwt', 'text/jwt', "JWT\0", 1, ['JWT'],
        $null, 'secevent+jwt', 'x' x 100;

hostile(header => $_->[0], header($_->[1]))
    for [ 'no object' => '["ES256"]' ], [ 'a string' => '"ES256"' ],
        [ 'half' => substr $raw_h, 0, -1 ], [ 'a byte behind' => "${raw_h}x" ],
        [ 'two' => $raw_h x 2 ], [ 'a zero byte' => "$raw_h\0" ],
        [ 'a BOM' => "\xef\xbb\xbf$raw_h" ],
        [ 'invalid UTF-8' => $raw_h =~ s/\{/{"x":"\xff",/r ],
        [ '200 deep' => '{"x":' . '[' x 200 . ']' x 200 . ','
                        . substr $raw_h, 1 ],
        [ 'spaces' => '    ' ];


# parts and their letters

hostile(less => $_->[0], $_->[1])
    for [ 'one part' => 'x' ], [ 'two parts' => "$h.$p" ],
        [ 'JSON' => $claims =~ s/\s//gr =~ tr/.//dr ],
        [ 'spaces' => '   x' ];
hostile(part => $_->[0], $_->[1])
    for [ 'dots' => '..' ], [ 'no header' => ".$p.$s" ],
        [ 'no payload' => "$h..$s" ], [ 'no signature' => "$h.$p." ];
hostile(more => $_->[0], $_->[1])
    for [ 'four parts' => "$good.x" ], [ 'a dot more' => "$good." ],
        [ 'a dot before' => ".$good" ], [ 'JWE' => "$h.$p.$s.$h.$p" ],
        [ 'two tokens' => "$good.$good" ], [ 'a list' => "$good,$good" ];
hostile(less => 'the JSON form of a JWS', HybridJwt::encode(
        { payload => $p, protected => $h, signature => $s }));
hostile(long => 'longer than 8 KiB', with(x => 'x' x 6200));
hostile(long => 'much longer', 'x' x 20000);

hostile(h64 => qq(a header with $_->[0]), ($h =~ s/^(..)/$1$_->[1]/r)
                                           . ".$p.$s")
    for [ 'a space' => ' ' ], [ 'a +' => '+' ], [ 'a /' => '/' ],
        [ 'a =' => '=' ], [ 'a %' => '%2B' ], [ 'a tab' => "\t" ],
        [ 'a byte above ASCII' => "\xc3\xa9" ], [ 'a quote' => '"' ];
hostile(p64 => 'a payload with padding', "$h.$p=.$s");
hostile(p64 => 'a payload with a letter more',
        "$h." . b64($claims . ' ' x (-length($claims) % 3)) . "A.$s");
hostile(p64 => 'a space in the payload', "$h." . ($p =~ s/^(.)/$1 /r) . ".$s");
hostile(s64 => 'a signature with padding', "$good==");
hostile(s64 => 'a signature with a line end', "$good\\n");
hostile(s64 => 'a signature in base64', $key{ES384}->mint(claims(),
        signature => "\xfb\xff" x 48) =~ tr{-_}{+/}r);

# 64 bytes: the last letter has 4 bits that nobody reads
my $last = substr $s, -1;
my $other = chr(ord($last) + 1);
hostile(s64 => 'a signature that is not canonical',
        substr($good, 0, -1) . $other);
my $text = b64($claims . ' ' x ((2 - length($claims)) % 3));
hostile(p64 => 'a payload that is not canonical',
        "$h." . substr($text, 0, -1) . chr(ord(substr $text, -1) + 1) . ".$s");


# signatures

my $n = Math::BigInt->from_hex('FFFFFFFF00000000FFFFFFFFFFFFFFFF'
                               . 'BCE6FAADA7179E84F3B9CAC2FC632551');
my ($r32, $s32) = unpack 'a32 a32', $raw_s;
my $zero = "\0" x 32;
my $order = $n->to_bytes;
my $one = "\0" x 31 . "\1";
my $more = ($n + Math::BigInt->from_bytes($s32));

sub signed { "$h.$p." . b64($_[0]) }
sub der { my ($r, $s) = map { s/^\0+//r =~ s/^(?=[\x80-\xff])/\0/r } @_;
          my $in = pack 'C/a C/a', $r, $s; $in = "\2" . pack('C/a', $r) . "\2"
          . pack('C/a', $s); "0" . pack 'C/a', $in }

hostile(wrong => "r and s: $_->[0]", signed($_->[1] . $_->[2]))
    for [ 'zeros', $zero, $zero ], [ 's zero', $r32, $zero ],
        [ 'r zero', $zero, $s32 ], [ 'r = n', $order, $s32 ],
        [ 's = n', $r32, $order ], [ 'both n', $order, $order ],
        [ 'ones', $one, $one ], [ 'exchanged', $s32, $r32 ],
        [ 'r one', $one, $s32 ], [ 'all bits', "\xff" x 32, "\xff" x 32 ];
hostile(length => "ECDSA: $_->[0]", signed($_->[1]))
    for [ 'DER', der($r32, $s32) ], [ 'a byte less', substr $raw_s, 0, 63 ],
        [ 'a byte more', "$raw_s\0" ], [ 'a byte before', "\0$raw_s" ],
        [ 'one half', $r32 ], [ 'one byte', "\0" ], [ 'twice', $raw_s x 2 ],
        [ '96 bytes', "\0" x 16 . $r32 . "\0" x 16 . $s32 ];
hostile(wrong => 'a bit of the signature', signed($raw_s ^ ("\0" x 40 . "\1")));
hostile(wrong => 'a bit of the payload', "$h."
        . b64($claims =~ s/alice/alicf/r) . ".$s");
hostile(wrong => 'a space more in the header', b64("$raw_h ") . ".$p.$s");
hostile(wrong => "another token's signature", "$h.$p."
        . (split /\./, with(jti => 'x'))[2]);

my $rsa = $rs->mint(claims());
my ($rsa_text, $rsa_s) = $rsa =~ /(.*)\.(.*)/;
my $modulus = Math::BigInt->from_bytes(unb64($rs->jwk->{n}));

hostile(wrong => "RSA: $_->[0]", "$rsa_text." . b64($_->[1]))
    for [ 'zeros', "\0" x 256 ], [ 'one', "\0" x 255 . "\1" ],
        [ 'n', $modulus->to_bytes ], [ 'n - 1', ($modulus - 1)->to_bytes ],
        [ 'all bits', "\xff" x 256 ];
hostile(length => "RSA: $_->[0]", "$rsa_text." . b64($_->[1]))
    for [ 'a zero before', "\0" . unb64($rsa_s) ],
        [ 'a zero behind', unb64($rsa_s) . "\0" ],
        [ 'a byte less', substr unb64($rsa_s), 1 ], [ 'short', 'x' ],
        [ '4096 bits', "\0" x 256 . unb64($rsa_s) ];
hostile(s64 => 'RSA: a huge one', "$rsa_text." . b64('x' x 1025));

my $ed = $key{EdDSA}->mint(claims());
my ($ed_text, $ed_s) = $ed =~ /(.*)\.(.*)/;
my $l = Math::BigInt->new(2)->bpow(252)
        + Math::BigInt->new('27742317777372353535851937790883648493');
my $sum = $l + Math::BigInt->from_bytes(scalar reverse substr unb64($ed_s), 32);

hostile(wrong => "Ed25519: $_->[0]", "$ed_text." . b64($_->[1]))
    for [ 'zeros', "\0" x 64 ], [ 'the neutral point', "\1" . "\0" x 63 ],
        [ 's + L', substr(unb64($ed_s), 0, 32)
                   . reverse(substr "\0" x 32 . $sum->to_bytes, -32) ];
hostile(length => 'Ed25519: a byte more',
        "$ed_text." . b64(unb64($ed_s) . 'x'));

my $mac = $hs->mint(claims());
hostile(wrong => 'HMAC: zeros', $mac =~ s/[^.]*\z/b64("\0" x 32)/er);
hostile(length => 'HMAC: a part', $mac =~ s/[^.]*\z//r
        . b64(substr unb64((split /\./, $mac)[2]), 0, 16));
hostile(wrong => 'HMAC: by the other secret',
        HybridJwt->key('HS256', kid => 'k-HS256',
                       secret => 'another-secret' x 4)->mint(claims()));


# payloads

hostile(payload => $_->[0], payload($_->[1]))
    for [ 'a list' => "[$claims]" ], [ 'a string' => '"x"' ],
        [ 'null' => 'null' ], [ 'a number' => '1' ], [ 'a token' => $good ],
        [ 'spaces' => '   ' ], [ 'two objects' => "$claims$claims" ],
        [ 'something behind' => "${claims}x" ],
        [ 'a comma more' => $claims =~ s/\}\z/,}/r ],
        [ 'half' => substr $claims, 0, -1 ], [ 'a zero byte' => "$claims\0" ],
        [ 'a BOM' => "\xef\xbb\xbf$claims" ],
        [ 'UTF-16' => pack 'n*', unpack 'C*', $claims ],
        [ 'single quotes' => $claims =~ tr/"/'/r ],
        [ 'a comment' => "/**/$claims" ],
        [ 'NaN' => $claims =~ s/"exp":\d+/"exp":NaN/r ],
        [ '1000 deep' => '{"x":' . '[' x 1000 . ']' x 1000
                         . ',' . substr $claims, 1 ],
        [ 'invalid UTF-8' => $claims =~ s/alice/alice","x":"\xff/r ],
        [ 'overlong UTF-8' => $claims =~ s/alice/alice","x":"\xc0\x80/r ],
        [ 'a surrogate' => $claims =~ s/alice/alice","x":"\\ud800/r ],
        [ 'a control character' => $claims =~ s/alice/alice","x":"\x01/r ];
hostile(zero => "a zero byte in $_->[0]",
        payload($claims =~ s/$_->[1]/$_->[2]/r))
    for [ 'sub', 'alice', 'alice\u0000x' ],
        [ 'a name', '"sub"', '"sub\u0000x":"mallory","sub"' ],
        [ 'iss', 'issuer.test', 'issuer.test\u0000.evil.test' ];

for my $name (qw(iss aud sub exp iat jti nbf common_name type kind)) {
    my %value = (exp => 99999999999, iat => 1, nbf => 1);
    my $value = $value{$name} // qq("$name");
    my $base = $claims =~ s/"(?:$name)":[^,}]*,?//r =~ s/,\}/}/r;

    hostile($name eq 'kind' ? 'all: p_twice' : 'p_twice' => "$name twice",
            payload($base =~ s/\{/{"$name":$value,"$name":$value,/r));
}

hostile(p_twice => "$_->[0]", payload($claims =~ s/\{/{$_->[1],/r))
    for [ 'sub first, escaped' => '"\u0073ub":"mallory"' ],
        [ 'sub in upper case' => '"SUB":"mallory"' ],
        [ 'sub with a long s' => "\"\xc5\xbfub\":\"mallory\"" ],
        [ 'exp escaped' => '"e\u0078p":1' ], [ 'Aud' => '"Aud":"gateway"' ],
        [ 'iss escaped' => '"i\u0073s":"https://rs.test"' ];
hostile(p_twice => 'sub last, escaped',
        payload($claims =~ s/\}\z/,"s\\u0075b":"mallory"}/r));


# claims

hostile(iss => 'iss ' . HybridJwt::encode($_), with(iss => $_))
    for 'https://evil.test', 'https://issuer.test/', 'HTTPS://issuer.test',
        'https://issuer.test ', '', 1, ['https://issuer.test'],
        $null, 'https://issuer.test' . 'x' x 300;
hostile(iss => 'no iss', with(iss => undef));
hostile(aud => 'aud ' . HybridJwt::encode($_), with(aud => $_))
    for 'gatewa', 'gateway ', 'Gateway', 'x gateway', 'gateway,x', '', [],
        ['x'], ['Gateway', 'gateway.evil.test'], [''];
hostile(aud_list => 'aud ' . HybridJwt::encode($_), with(aud => $_))
    for [['gateway']], ['gateway', 1], [{ gateway => 1 }], [$null],
        ['gateway', JSON::PP::true];
hostile(aud_type => 'aud ' . HybridJwt::encode($_), with(aud => $_))
    for { gateway => 1 }, 1, JSON::PP::true, $null;
hostile(aud_type => 'no aud', with(aud => undef));

my $now = time;

hostile(no_exp => 'no exp', with(exp => undef));
hostile(exp => "exp $_", text(exp => $_))
    for '"99999999999"', 'null', 'true', '[99999999999]', '{}', '""',
        '1e300', '9007199254740993', '9223372036854775807', '1e17',
        '-1e18';
hostile(read => "exp $_", text(exp => $_))
    for '1e400', '9223372036854775808', '99999999999999999999999',
        '-9223372036854775809';
hostile(payload => "exp $_", text(exp => $_))
    for '099999999999', '+99999999999', '0x7fffffff', '99999999999.',
        '.5', 'Infinity', '1e';
hostile(expired => "exp $_", text(exp => $_))
    for '0', '-1', '-99999999999', '1', $now - 61, ($now - 61) . '.5', '0.0',
        '1e9', '1E-9', '-0', '1e-400';
hostile(nbf => "nbf $_", payload($claims =~ s/\{/{"nbf":$_,/r))
    for '"1"', 'null', 'false', '[]', '1e300';
hostile(early => "nbf $_", payload($claims =~ s/\{/{"nbf":$_,/r))
    for $now + 3600, '99999999999', '1e11', ($now + 3600) . '.5';
hostile(iat => "iat $_", text(iat => $_)) for '"1"', 'null', '{}', '1e300';
hostile(future => "iat $_", text(iat => $_)) for $now + 3600, '99999999999';

hostile(sub => 'sub ' . HybridJwt::encode($_), with(sub => $_))
    for 1, ['alice'], $null, JSON::PP::true, {};
hostile(sub_long => 'a sub too long', with(sub => 'x' x 129));
hostile(sub_chars => 'sub ' . HybridJwt::encode($_), with(sub => $_))
    for 'ali ce', 'alice ', "alice\r\nX-Hybrid-Client: root", 'a/b', 'a:b',
        'a|b', 'a{b}', '*', 'a%0a', "\xc3\xa9", "\x{7f}", '"', 'a\\b', "a\tb";
hostile(cn => 'common_name ' . HybridJwt::encode($_),
        with(sub => '', common_name => $_)) for 1, ['x'], $null;
hostile(sub_chars => 'a common_name', with(sub => '', common_name => 'a b'));
hostile(sub_long => 'a common_name too long',
        with(sub => undef, common_name => 'x' x 129));
hostile(jti => 'jti ' . HybridJwt::encode($_), with(jti => $_))
    for 1, ['x'], $null;
hostile(jti_long => 'a jti too long', with(jti => 'x' x 129));
hostile(jti_chars => 'jti ' . HybridJwt::encode($_), with(jti => $_))
    for 'a b', "a\nb", "\x7f", "\xc3\xa9", "\t";


# the headers of the request

my @requests = (
    [ 'no credential' => 'a cookie', "Cookie: CF_Authorization=$good\r\n" ],
    [ 'no credential' => 'a query', '', "?access_token=$good" ],
    [ 'no credential' => 'nothing', '' ],
    map({ [ 'Authorization is not "Bearer"' => $_, "Authorization: $_\r\n" ] }
        $good, "JWT $good", "Basic $good", 'Bearer', "Token $good",
        "Bearer\t$good", "DPoP $good", "Bearer,$good"),
    [ $why{h64} => 'two spaces', "Authorization: Bearer  $good\r\n" ],
    [ $why{h64} => 'quotes', "Authorization: Bearer \"$good\"\r\n" ],
    [ $why{more} => 'two', "Authorization: Bearer $good, Bearer $good\r\n" ],
    [ undef, 'Authorization twice', "Authorization: Bearer $good\r\n" x 2 ],
    [ undef, 'Authorization folded', "Authorization: Bearer\r\n $good\r\n" ],
);

# -- all of it

my ($tail, $leaked, %seen) = (0, '');

$n = 0;

sub judge {
    my ($why, $name, $headers, $query) = @_;

    my $from = sprintf '10.0.%d.%d', ++$n / 256, $n % 256;
    my $answer = $t->raw("GET /api/version" . ($query // '')
                         . " HTTP/1.1\r\nHost: a\r\nX-From: $from\r\n$headers"
                         . "Connection: close\r\n\r\n");
    my ($status) = $answer =~ m{^HTTP/1\.1 (\d+)};
    my $log = substr $t->log('error.log'), $tail;
    $tail += length $log;

    # nginx itself logs a request line, and headers it refuses
    $leaked .= $log if $log =~ /authenticated: .*\Q$s\E.*request:/;

    my $ok = ($status // '') =~ /^(?:401|400)$/
             && (!defined $why || $status == 401
                 && $log =~ /client is not authenticated: \Q$why\E/);

    ok $ok, $name =~ s/[^ -~]/?/gr =~ s/(.{70}).*/$1.../r or do {
        diag "status ", $status // 'none', ", not for: ", $why // '';
        diag $log =~ s/[^\n -~]/?/gr;
    };

    $seen{$why // ''}++;
}

is $t->get('/api/version', headers => { Authorization => "Bearer $_" })
   ->{status}, 200, 'a good one' for $good, $rsa, $ed, $mac;

my $asked = () = $b->requests;

for my $token (@tokens) {
    my ($why, $name, $jwt) = @$token;

    judge($why =~ s/^all: // ? $why{$why} =~ s/JWT/JWT of issuer "all"/r
                             : $why{$why}, $name,
          "Authorization: Bearer $jwt\r\n");
}

judge($_->[0], $_->[1], $_->[2], $_->[3]) for @requests;

is scalar(() = $b->requests), $asked, scalar(@tokens + @requests)
   . ' hostile requests, and no backend heard of one';
cmp_ok @tokens, '>', 300, 'many';

is join(', ', grep { !$seen{$_} } sort values %why), '', 'all reasons';

is $t->get('/api/version', headers => { Authorization => "Bearer $_" })
   ->{status}, 200, 'a good one, still' for $good, $rsa, $ed, $mac;

is $leaked, '', 'no token in our messages';
unlike $t->log('error.log'), qr/stale global SSL error/,
       'nothing left behind';

$t->done;
