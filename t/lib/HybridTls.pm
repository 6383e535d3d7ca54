package HybridTls;

# Certificate authorities, and clients that speak TLS.
#
#   my $ca = HybridTls->ca($t, 'root');          # $t is a Hybrid
#   my $alice = $ca->issue(subject => '/CN=alice', san => [ 'DNS:a.test' ]);
#   my $c = HybridTls->connect($t, cert => $alice, version => 'TLSv1_3');
#   my $r = $c->ask('GET', '/api/tags');         # several on one connection
#
# ca T, NAME [, under => CA or cert => CERT, which then acts as one]
#   Fields: cert, key (files), chain (this one and those above but the root).
#   issue OPTION...: subject ('/CN=x'), san (a list as in OpenSSL's
#     configuration, or DER in hexadecimal), ends (seconds from now, 3 days),
#     self (signed by itself instead), ca (a CA).  Fields: cert (with the
#     chain of its CA if chain => 1), key, leaf (file), sha256 (hexadecimal),
#     dn (as nginx shows it).
#   revoke CERT; crl FILE, CA...: writes the lists of these into FILE.
#
# connect T, OPTION...: port, cert, version, host (SNI, undef: none), session
#   (a hash that keeps a session for the next connection).  undef and $@ when
#   there is no handshake.
#   ask METHOD, PATH, headers => [ [name, value]... ], content: status,
#   headers (lower-case names), content; undef when the connection broke.

use strict;
use warnings;

use Hybrid;
use IO::Socket::INET;
use Net::SSLeay ();
use POSIX ();
use Socket qw(SOL_SOCKET SO_RCVTIMEO);

Net::SSLeay::initialize();

my %VERSIONS = (TLSv1_2 => 0x0303, TLSv1_3 => 0x0304);


sub ca {
    my ($class, $t, $name, %o) = @_;
    my $ca = bless { t => $t, name => $name, n => 0,
                     file => "$t->{dir}/$name" }, $class;

    $ca->{key} = key($t, "$name.ca");
    $ca->{cert} = "$ca->{file}.pem";
    $t->file("$name.index", '');
    $t->file("$name.index.attr", "unique_subject = no\n");
    $t->file("$name.serial", "1000\n");
    $t->file("$name.crlnumber", "01\n");
    $t->file("$name.conf", <<"END");
[ca]
database = $ca->{file}.index
serial = $ca->{file}.serial
crlnumber = $ca->{file}.crlnumber
new_certs_dir = $t->{dir}
default_md = sha256
default_days = 3
default_crl_days = 3
policy = any
preserve = yes
email_in_dn = yes
string_mask = utf8only
[any]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
emailAddress = optional
END

    if ($o{cert}) {
        @$ca{qw(cert key)} = @{$o{cert}}{qw(leaf key)};
        $ca->{chain} = Hybrid::_slurp($ca->{cert});

    } elsif ($o{under}) {
        my $cert = $o{under}->issue(subject => $o{subject} || "/CN=$name",
                                    ca => 1, key => $ca->{key});
        $t->file("$name.pem", Hybrid::_slurp($cert->{leaf}));
        $ca->{chain} = Hybrid::_slurp($ca->{cert})
                       . ($o{under}{chain} // '');

    } else {
        $t->_openssl(qw(req -x509 -new -nodes -days 3 -key), $ca->{key},
                     '-subj', $o{subject} || "/CN=$name", '-addext',
                     'keyUsage=critical,keyCertSign,cRLSign', '-out',
                     $ca->{cert});
        $ca->{chain} = '';
    }

    return $ca;
}


# one for all clients, unless asked for another: making them takes time
sub key {
    my ($t, $name) = @_;
    my $file = "$t->{dir}/" . ($name || 'shared') . '.key';

    $t->_openssl(qw(genpkey -algorithm EC -pkeyopt
                    ec_paramgen_curve:P-256 -out), $file) if !-e $file;

    return $file;
}


sub _time { POSIX::strftime('%Y%m%d%H%M%SZ', gmtime(time + $_[0])) }


sub issue {
    my ($ca, %o) = @_;
    my $t = $ca->{t};
    my $file = "$ca->{file}." . ++$ca->{n};
    my $key = $o{key} || key($t);
    my $ext = $o{ca} ? "basicConstraints=critical,CA:TRUE\n"
                       . "keyUsage=critical,keyCertSign,cRLSign\n"
                     : "basicConstraints=CA:FALSE\n";

    if (my $san = $o{san}) {
        $ext .= 'subjectAltName='
                . (ref $san ? join(',', @$san) : "DER:$san") . "\n";
    }

    $ext .= $o{ext} if $o{ext};
    $t->file("$ca->{name}.$ca->{n}.ext", $ext);

    my $subject = $o{subject} // '/CN=client';

    if ($o{self}) {
        $t->_openssl(qw(req -x509 -new -nodes -days 3 -utf8 -key), $key,
                     '-subj', $subject, '-out', "$file.pem",
                     map { ('-addext', $_) } grep { !/^basic/ }
                     split /\n/, $ext);

    } else {
        $t->_openssl(qw(req -new -utf8 -key), $key, '-subj', $subject,
                     '-out', "$file.csr");
        $t->_openssl(qw(ca -batch -notext -name ca -config),
                     "$ca->{file}.conf", '-cert', $ca->{cert}, '-keyfile',
                     $ca->{key}, '-in', "$file.csr", '-out', "$file.pem",
                     '-extfile', "$file.ext", '-startdate', _time(-86400),
                     '-enddate', _time($o{ends} // 3 * 86400));
    }

    my $text = Hybrid::_slurp("$file.pem");
    my $whole = $t->file("$ca->{name}.$ca->{n}.chain",
                         $text . ($o{chain} ? $ca->{chain} : ''));
    my $say = $t->run(qw(openssl x509 -noout -fingerprint -sha256 -subject
                         -nameopt RFC2253 -in), "$file.pem");
    my ($sha256) = $say =~ /Fingerprint=([0-9A-F:]+)/i;
    my ($dn) = $say =~ /^subject=(.*)$/m;

    return { leaf => "$file.pem", cert => $whole, key => $key, dn => $dn,
             sha256 => lc($sha256 =~ tr/://dr), colons => $sha256 };
}


sub revoke {
    my ($ca, $cert) = @_;
    $ca->{t}->_openssl(qw(ca -name ca -config), "$ca->{file}.conf", '-cert',
                       $ca->{cert}, '-keyfile', $ca->{key}, '-revoke',
                       $cert->{leaf});
}


sub crl {
    my ($ca, $file, @more) = @_;
    my $text = '';

    for my $one ($ca, @more) {
        $one->{t}->_openssl(qw(ca -name ca -gencrl -config),
            "$one->{file}.conf", '-cert', $one->{cert}, '-keyfile',
            $one->{key}, '-out', "$one->{file}.crl");
        $text .= Hybrid::_slurp("$one->{file}.crl");
    }

    return $ca->{t}->file($file, $text);
}


# -- clients

sub connect {
    my ($class, $t, %o) = @_;
    my $plain = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $o{port} || $t->port, Proto => 'tcp',
        Timeout => $Hybrid::PATIENCE) or die "connect: $!";

    setsockopt $plain, SOL_SOCKET, SO_RCVTIMEO,
               pack('l!l!', $Hybrid::PATIENCE, 0);

    my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_method());
    my $c = bless { socket => $plain, buffer => '', host => $o{host},
                    ctx => $ctx, session => $o{session} }, $class;

    if (my $version = $VERSIONS{$o{version} || ''}) {
        Net::SSLeay::CTX_set_min_proto_version($ctx, $version);
        Net::SSLeay::CTX_set_max_proto_version($ctx, $version);
    }

    if (my $cert = $o{cert}) {
        Net::SSLeay::CTX_use_certificate_chain_file($ctx, $cert->{cert});
        Net::SSLeay::CTX_use_PrivateKey_file($ctx, $cert->{key},
            Net::SSLeay::FILETYPE_PEM()) or die "key of $cert->{cert}";
    }

    my $ssl = $c->{ssl} = Net::SSLeay::new($ctx);

    Net::SSLeay::set_fd($ssl, fileno $plain);
    Net::SSLeay::set_tlsext_host_name($ssl, $o{host}) if $o{host};
    Net::SSLeay::set_session($ssl, $o{session}{saved})
        if $o{session} && $o{session}{saved};

    if (Net::SSLeay::connect($ssl) != 1) {
        $@ = Net::SSLeay::print_errs('');
        return undef;
    }

    return $c;
}


sub reused { Net::SSLeay::session_reused($_[0]{ssl}) }
sub version { Net::SSLeay::get_version($_[0]{ssl}) }


sub close {
    my ($c) = @_;
    my $ssl = delete $c->{ssl} or return;

    # a ticket of TLS 1.3 has come with the first answer
    if ($c->{session}) {
        Net::SSLeay::SESSION_free($c->{session}{saved})
            if $c->{session}{saved};
        $c->{session}{saved} = Net::SSLeay::get1_session($ssl);
    }

    Net::SSLeay::shutdown($ssl);
    Net::SSLeay::free($ssl);
    Net::SSLeay::CTX_free(delete $c->{ctx});
    CORE::close($c->{socket});
}


sub DESTROY { $_[0]->close }


sub ask {
    my ($c, $method, $path, %o) = @_;
    my $content = $o{content} // '';
    my @lines = ("$method $path HTTP/1.1", 'Host: '
                 . ($o{host} // $c->{host} // 'gateway'),
                 $content ne '' ? 'Content-Length: ' . length $content : (),
                 map { "$_->[0]: $_->[1]" } @{$o{headers} || []});

    return undef if Net::SSLeay::write($c->{ssl}, join "\r\n", @lines, '',
                                       $content) <= 0;

    $c->_until(qr/\r\n\r\n/) or return undef;
    $c->{buffer} =~ s/^(.*?)\r\n\r\n//s;
    my ($first, @fields) = split /\r\n/, $1;
    my %r = (status => ($first =~ m{^HTTP/1\.1 (\d+)})[0], content => '');

    for my $field (@fields) {
        my ($name, $value) = $field =~ /^([^:]+):\s*(.*)$/;
        $r{headers}{lc $name} = $value;
    }

    if (defined(my $length = $r{headers}{'content-length'})) {
        $c->_until(qr/^.{$length}/s) or return undef;
        $r{content} = substr $c->{buffer}, 0, $length, '';

    } elsif (($r{headers}{'transfer-encoding'} // '') eq 'chunked') {
        for (;;) {
            $c->_until(qr/^[0-9a-f]+\r\n/) or return undef;
            $c->{buffer} =~ s/^([0-9a-f]+)\r\n//;
            my $length = hex $1;
            $c->_until(qr/^.{$length}\r\n/s) or return undef;
            $r{content} .= substr $c->{buffer}, 0, $length, '';
            substr $c->{buffer}, 0, 2, '';
            last if !$length;
        }
    }

    return \%r;
}


sub _until {
    my ($c, $regex) = @_;

    until ($c->{buffer} =~ $regex) {
        my $text = Net::SSLeay::read($c->{ssl}, 65536);
        return 0 if !defined $text || $text eq '';
        $c->{buffer} .= $text;
    }

    return 1;
}


1;
