package HybridBlocks;

# For Test::Nginx files: clients with known secrets, backends that say what
# they were asked, and blocks made from tables.

use strict;
use warnings;

use Digest::SHA 'sha256_hex';
use Exporter 'import';
use File::Basename 'basename';

our @EXPORT = qw(secret token client headers bearer proxy_conf gateway ollama
    table quiet);

# a report of a sanitizer says whose it is
$ENV{ASAN_OPTIONS} =~ s{(/log/)report\b}{$1 . basename($0)}e
    if $ENV{ASAN_OPTIONS};


sub secret { "the-secret-of-$_[0]" }

# a "token" line; "more" is put before the ";"
sub token {
    my ($id, $more, $secret) = @_;
    my $digest = sha256_hex($secret // secret($id));

    return "token $id sha256:$digest " . ($more // '') . ';';
}

# hybrid_client NAME with a token of the same id
sub client {
    my ($name, $more) = @_;
    return "hybrid_client $name { " . token($name) . ' '
           . ($more // 'models *;') . " }\n";
}

sub headers {
    my ($id, $secret) = @_;
    return "CF-Access-Client-Id: $id\n"
           . 'CF-Access-Client-Secret: ' . ($secret // secret($id)) . "\n";
}

sub bearer {
    my ($id, $secret) = @_;
    return "Authorization: Bearer $id:" . ($secret // secret($id)) . "\n";
}

# what "include hybrid_proxy.conf" brings, with other values: timeouts...
sub proxy_conf {
    my (%set) = @_;
    my $file = "$ENV{HYBRID_ROOT}/conf/hybrid_proxy.conf";

    return "include $file;\n" if !%set;

    open my $in, '<', $file or die "$file: $!";
    my $text = do { local $/; <$in> };

    for my $name (sort keys %set) {
        $text =~ s/^\Q$name\E [^;]*;/$name $set{$name};/m
            or $text .= "$name $set{$name};\n";
    }

    return $text;
}

# "location / { }" of a gateway; "more" goes into it
sub gateway {
    my ($more, %set) = @_;
    return "location / {\nhybrid_access token;\n" . ($more // '')
           . proxy_conf(%set) . "}\n";
}

# a server that says what it was asked
sub ollama {
    my ($port) = @_;
    return <<"END";
    server {
        listen 127.0.0.1:$port;
        location / {
            return 200 "\$request_method \$request_uri \$http_host\\n";
        }
    }
END
}

# blocks for spec_string(), made of [ name, section => text, ... ]
sub table {
    my $spec = '';

    for my $row (@_) {
        my ($name, @sections) = @$row;

        $spec .= "=== $name\n";

        while (my ($section, $text) = splice @sections, 0, 2) {
            my $between = $section =~ /^error_code(_like)?$/ ? ': ' : "\n";

            $text =~ s/\n?\z/\n/;
            $spec .= "--- $section$between$text";
        }

        $spec .= "\n";
    }

    return $spec;
}

# nginx repeats on standard error what the tests look for in its log; what
# Test::More says has been redirected before
sub quiet {
    open STDERR, '>', '/dev/null' if !$ENV{TEST_NGINX_VERBOSE};
}

1;
