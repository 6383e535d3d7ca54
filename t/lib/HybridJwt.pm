package HybridJwt;

# Keys and tokens for tests: real ones, signed by openssl, and wrong ones.
#
#   use HybridJwt;
#
#   my $key = HybridJwt->key('RS256', kid => 'k1');       # made once a run
#   my $set = HybridJwt::jwks($key, $other);              # text of a key set
#   my $jwt = $key->mint(claims());                       # signed
#   my $old = $key->mint(claims(exp => time - 3600));
#   my $bad = $key->mint(claims(), header => { alg => 'none', kid => undef });
#
# key ALG, OPTION => VALUE...
#   kid; bits of an RSA key (2048); e; secret of HS256.  The same arguments
#   give the same key.  Fields: alg, kid, file (PEM), secret.
# $key->jwk(NAME => VALUE...)   the public key as a hash, with changes: undef
#   takes a member away
# jwks KEY...   KEY is one of ours, a hash, or anything for "keys"
# claims NAME => VALUE...       a hash: a token for issuer https://issuer.test
#   and audience "gateway", by "alice", for five minutes; with changes
# $key->mint CLAIMS, OPTION => VALUE...
#   CLAIMS is a hash, or the bytes of the payload.  header: changes as a hash,
#   or the bytes; alg: what to sign with (the header says the key's own);
#   signature: these bytes instead
# $key->sign ALG, BYTES         the signature as JOSE has it
# b64 BYTES, unb64 TEXT; encode VALUE (as JSON); compact HEADER, PAYLOAD,
#   SIGNATURE, all bytes

use strict;
use warnings;

use Digest::SHA ();
use Exporter 'import';
use File::Temp ();
use JSON::PP ();
use MIME::Base64 ();

our @EXPORT = qw(claims jwks b64 unb64 compact);

my $json = JSON::PP->new->utf8->allow_nonref->canonical;
my ($dir, %keys);


sub encode { $json->encode($_[0]) }
sub b64 { MIME::Base64::encode_base64($_[0], '') =~ tr{+/=}{-_}dr }
sub unb64 { MIME::Base64::decode_base64($_[0] =~ tr{-_}{+/}r) }
sub compact { join '.', map { b64($_) } @_ }


sub key {
    my ($class, $alg, %option) = @_;
    my $id = $json->encode([$alg, \%option]);

    return $keys{$id} ||= do {
        my $key = bless { alg => $alg, kid => $option{kid} }, $class;

        if ($alg eq 'HS256') {
            $key->{secret} = $option{secret} // 'secret' . '-of-a-test' x 4;

        } else {
            $key->{file} = _generate($alg, %option);
        }

        $key;
    };
}


sub _generate {
    my ($alg, %option) = @_;

    $dir //= File::Temp::tempdir('jwt.XXXXXX', TMPDIR => 1, CLEANUP => 1);

    my $file = sprintf '%s/%d.pem', $dir, 1 + keys %keys;
    my @type = $alg =~ /^[RP]S/
               ? ('RSA', "rsa_keygen_bits:" . ($option{bits} || 2048))
               : $alg =~ /^ES/
               ? ('EC', 'ec_paramgen_curve:' . ($option{curve}
                        || { ES256 => 'P-256', ES384 => 'P-384' }->{$alg}))
               : 'ED25519';

    push @type, "rsa_keygen_pubexp:$option{e}" if $option{e};

    _openssl('', 'genpkey', '-out', $file, '-algorithm',
             shift @type, map { ('-pkeyopt', $_) } @type);
    return $file;
}


# what it writes
sub _openssl {
    my ($input, @command) = @_;

    $dir //= File::Temp::tempdir('jwt.XXXXXX', TMPDIR => 1, CLEANUP => 1);

    open my $fh, '>:raw', "$dir/in" or die "$dir/in: $!";
    print $fh $input;
    close $fh or die "$dir/in: $!";

    my $pid = open(my $out, '-|') // die "fork: $!";

    if ($pid == 0) {
        open STDERR, '>', "$dir/err";
        open STDIN, '<', "$dir/in";
        { no warnings; exec 'openssl', @command; }
        require POSIX;
        POSIX::_exit(127);
    }

    binmode $out;
    local $/;
    my $text = <$out> // '';
    close $out or die "openssl @command failed: "
                      . do { open my $e, '<', "$dir/err"; <$e> // '' };
    return $text;
}


# the public key in DER (SubjectPublicKeyInfo) or PEM
sub public {
    my ($key, $form) = @_;
    return $key->{public}{$form} //= _openssl('', 'pkey', '-in', $key->{file},
                                             '-pubout', '-outform', $form);
}


sub jwk {
    my ($key, %change) = @_;
    my $alg = $key->{alg};
    my %jwk = (kid => $key->{kid}, alg => $alg, use => 'sig');

    if ($alg eq 'HS256') {
        @jwk{qw(kty k)} = ('oct', b64($key->{secret}));

    } else {
        my $der = $key->public('DER');

        if ($alg =~ /^[RP]S/) {
            $jwk{kty} = 'RSA';
            @jwk{qw(n e)} = map { b64($_) } _rsa_numbers($der);

        } elsif ($alg =~ /^ES/) {
            my $size = $alg eq 'ES256' ? 32 : 48;
            my $point = substr $der, -2 * $size;
            @jwk{qw(kty crv x y)} = ('EC', $size == 32 ? 'P-256' : 'P-384',
                b64(substr $point, 0, $size), b64(substr $point, $size));

        } else {
            @jwk{qw(kty crv x)} = ('OKP', 'Ed25519', b64(substr $der, -32));
        }
    }

    %jwk = (%jwk, %change);
    delete $jwk{$_} for grep { !defined $jwk{$_} } keys %jwk;

    return \%jwk;
}


# (tag, content, rest) of the value that DER begins with
sub _der {
    my ($der) = @_;
    my ($tag, $len) = unpack 'CC', $der;
    my $at = 2;

    if ($len & 0x80) {
        my $n = $len & 0x7f;
        $len = oct '0x' . unpack 'H*', substr $der, 2, $n;
        $at += $n;
    }

    return ($tag, substr($der, $at, $len), substr($der, $at + $len));
}


sub _rsa_numbers {
    my ($spki) = @_;
    my (undef, $in) = _der($spki);
    my (undef, undef, $bits) = _der($in);
    my (undef, $text) = _der($bits);
    my (undef, $numbers) = _der(substr $text, 1);
    my (undef, $n, $rest) = _der($numbers);
    my (undef, $e) = _der($rest);

    return map { s/^\0+//r } $n, $e;
}


sub jwks {
    return encode({ keys => [ map { ref eq 'HybridJwt' ? $_->jwk : $_ } @_ ] });
}


sub claims {
    my (%change) = @_;
    my $now = time;
    my %claims = (iss => 'https://issuer.test', aud => 'gateway',
                  sub => 'alice', iat => $now, exp => $now + 300, %change);

    delete $claims{$_} for grep { !defined $claims{$_} } keys %claims;

    return \%claims;
}


sub mint {
    my ($key, $claims, %option) = @_;
    my $header = $option{header};

    if (ref $header || !defined $header) {
        my %header = (alg => $key->{alg}, typ => 'JWT', kid => $key->{kid},
                      %{$header || {}});

        delete $header{$_} for grep { !defined $header{$_} } keys %header;
        $header = encode(\%header);
    }

    my $text = b64($header) . '.'
               . b64(ref $claims ? encode($claims) : $claims);
    my $signature = $option{signature}
                    // $key->sign($option{alg} // $key->{alg}, $text);

    return "$text." . b64($signature);
}


sub sign {
    my ($key, $alg, $text) = @_;

    return Digest::SHA::hmac_sha256($text, $key->{secret})
        if $alg eq 'HS256';

    # it takes no pipe; "in" is what it is given anyway

    if ($alg eq 'EdDSA') {
        return _openssl($text, 'pkeyutl', '-sign', '-rawin', '-inkey',
                        $key->{file}, '-in', "$dir/in");
    }

    my ($bits) = $alg =~ /(\d+)/;
    my @pss = $alg =~ /^PS/ ? ('-sigopt', 'rsa_padding_mode:pss', '-sigopt',
                               'rsa_pss_saltlen:' . $bits / 8) : ();
    my $signature = _openssl($text, 'dgst', "-sha$bits", '-sign',
                             $key->{file}, @pss);

    return $signature if $alg !~ /^ES/;

    my $size = $alg eq 'ES256' ? 32 : 48;
    my (undef, $in) = _der($signature);
    my (undef, $r, $rest) = _der($in);
    my (undef, $s) = _der($rest);

    return join '', map { substr "\0" x $size . $_, -$size } $r, $s;
}

1;
