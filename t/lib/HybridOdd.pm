package HybridOdd;

# A server of HTTP or HTTPS that answers what a test tells it, see
# odd_server.py.
#
#   my $s = HybridOdd->new($t, 'jwks', tls => $cert);     # $t of Hybrid
#   $s->answer(200, $body, 'ETag' => '"1"');       # with a Content-Length
#   $s->steps({ send => "HTTP/1.1 200 OK\r\n" }, { hang => 1 });
#   $s->mode(accept => 'hang');                    # or cert => HASH, tag => T
#   $s->path('/a', steps => [...]);                # for requests of this path
#   $s->{addr}, $s->{port}; $s->requests; $s->connections (how many); $s->left;
#   $s->clear
#   $s->stop; $s->start (the same port)
#
#   my $dns = HybridOdd->dns($t, 'dns');           # DNS, see odd_dns.py
#   $dns->names('a.test' => ['127.0.0.1'], ...);   # these and no others

use strict;
use warnings;

use Hybrid ();
use JSON::PP ();


sub new {
    my ($class, $t, $name, %option) = @_;
    my $s = bless { t => $t, home => "$t->{dir}/$name", mode => {} }, $class;

    mkdir $s->{home} or die "$s->{home}: $!";
    $s->mode(cert => $option{tls}, steps => []);
    return $s->start;
}


sub start {
    my ($s, $program) = @_;

    $s->{program} //= $program // 'odd_server.py';
    unlink "$s->{home}/ready";
    $s->{pid} = Hybrid::_spawn($s->{home}, "$s->{home}/out", 'python3',
        "$Hybrid::ROOT/t/lib/$s->{program}", $s->{home});
    Hybrid::poll { -e "$s->{home}/ready" || !Hybrid::_alive($s->{pid}) };

    ($s->{port}) = Hybrid::_slurp("$s->{home}/port") =~ /(\d+)/
        or die "$s->{program}: " . Hybrid::_slurp("$s->{home}/out");
    $s->{addr} = "127.0.0.1:$s->{port}";
    return $s;
}


sub stop {
    my ($s) = @_;
    Hybrid::_end(delete $s->{pid}, 'KILL') if $s->{pid};
}


# changes of the mode; what is undef goes
sub mode {
    my ($s, %change) = @_;

    for my $name (keys %change) {
        if ($name eq 'cert') {
            @{$s->{mode}}{qw(cert key)}
                = $change{cert} ? @{$change{cert}}{qw(cert key)} : ();
        } else {
            $s->{mode}{$name} = $change{$name};
        }
    }

    $s->_write('mode.json', $s->{mode});
    return $s;
}


# at once: it may be read at any time
sub _write {
    my ($s, $name, $value) = @_;
    my $file = "$s->{home}/$name";

    open my $out, '>:raw', "$file.new" or die "$file: $!";
    print $out JSON::PP->new->utf8->encode($value);
    close $out or die "$file: $!";
    rename "$file.new", $file or die "$file: $!";
}


sub path {
    my ($s, $path, %mode) = @_;
    $s->{mode}{paths}{$path} = \%mode;
    return $s->mode;
}


sub steps {
    my ($s, @steps) = @_;
    return $s->mode(accept => undef, tag => undef, abrupt => undef,
                    steps => \@steps);
}


sub text {
    my ($status, $body, @headers) = @_;
    my $text = "HTTP/1.1 $status Some reason\r\n";

    while (my ($name, $value) = splice @headers, 0, 2) {
        $text .= "$name: $value\r\n";
    }

    return "$text\r\n$body";
}


sub answer {
    my ($s, $status, $body, @headers) = @_;
    return $s->steps({ send => text($status, $body, @headers,
        'Content-Length' => length $body) });
}


sub requests {
    my ($s) = @_;
    return map { JSON::PP::decode_json($_) }
           split /\n/, Hybrid::_slurp("$s->{home}/requests");
}


sub connections {
    my ($s) = @_;
    return scalar split /\n/, Hybrid::_slurp("$s->{home}/connections");
}


# connections that the gateway has left in a step of this name
sub left {
    my ($s) = @_;
    return scalar split /\n/, Hybrid::_slurp("$s->{home}/left");
}


sub clear {
    my ($s) = @_;
    unlink "$s->{home}/$_" for qw(requests connections left);
}


sub dns {
    my ($class, $t, $name) = @_;
    my $s = bless { t => $t, home => "$t->{dir}/$name" }, $class;

    mkdir $s->{home} or die "$s->{home}: $!";
    $s->names;
    return $s->start('odd_dns.py');
}


sub names {
    my ($s, %names) = @_;
    $s->_write('names.json', \%names);
}


1;
