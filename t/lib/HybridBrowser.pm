package HybridBrowser;

# Chromium without a window, driven by its DevTools protocol over two pipes.
#
#   my $b = HybridBrowser->new(DIRECTORY);       # undef: there is none
#   $b->open(URL);  $b->js(EXPRESSION)           # its value; promises too
#   $b->wait_js(EXPRESSION)                      # until it is true
#   $b->size(360, 740);  $b->scheme('dark')
#   $b->answer(qr/[?]data/ => sub { BODY })      # instead of the server
#   $b->shot(FILE)                               # a PNG of what is seen
#   $b->problems  what the console, the policy and scripts complained of
#   $b->asked     the URLs of all requests; forget: of both, none
#   $b->stop
#
# All dies when Chromium does, or says nothing for PATIENCE seconds.

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use JSON::PP ();
use MIME::Base64 qw(decode_base64 encode_base64);
use POSIX ();
use Time::HiRes qw(sleep time);

our $PATIENCE = 60;

my $json = JSON::PP->new->utf8->allow_nonref;
my $owner = $$;
my %running;

my @options = qw(--headless --no-sandbox --disable-gpu --no-first-run
    --disable-dev-shm-usage --disable-background-networking
    --disable-component-update --disable-default-apps --disable-extensions
    --disable-sync --disable-crash-reporter --no-proxy-server
    --remote-debugging-pipe about:blank);


sub program {
    for my $name (qw(chromium chromium-browser google-chrome)) {
        for my $dir (split /:/, $ENV{PATH}) {
            return "$dir/$name" if -x "$dir/$name" && !-d _;
        }
    }
    return;
}


sub new {
    my ($class, $dir) = @_;
    my $program = program() or return;

    pipe my $in, my $to or die "pipe: $!";
    pipe my $from, my $out or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        setpgrp;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        delete @ENV{ grep { /proxy|^(?:ASAN|LSAN|UBSAN)_/i } keys %ENV };
        $ENV{HOME} = $dir;
        $ENV{XDG_CONFIG_HOME} = $ENV{XDG_CACHE_HOME} = "$dir/xdg";
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', "$dir/chromium.log";
        open STDERR, '>&', \*STDOUT;

        # where Chromium looks for them; first out of each other's way

        my ($read, $write) = map { POSIX::dup2(fileno $_->[0], $_->[1]) }
            [ $in, 200 ], [ $out, 201 ];
        POSIX::dup2(200, 3);
        POSIX::dup2(201, 4);
        POSIX::close($_) for 200, 201;
        chdir '/';
        exec $program, "--user-data-dir=$dir/profile", @options
            or POSIX::_exit(127);
    }

    setpgrp $pid, $pid;
    $running{$pid} = 1;
    close $in;
    close $out;
    $to->autoflush(1);

    my $b = bless { pid => $pid, to => $to, from => $from, buffer => '',
                    id => 0, problems => [], asked => [], answers => [] },
                  $class;

    my $target = $b->call('Target.createTarget', { url => 'about:blank' });
    $b->{session} = $b->call('Target.attachToTarget',
        { targetId => $target->{targetId}, flatten => JSON::PP::true })
        ->{sessionId};

    $b->call("$_.enable") for qw(Page Runtime Log Network);

    return $b;
}


# -- the protocol

sub tell {
    my ($b, $method, $params) = @_;
    my %message = (id => ++$b->{id}, method => $method,
                   params => $params || {});

    $message{sessionId} = $b->{session}
        if $b->{session} && $method !~ /^(?:Target|Browser)\./;

    local $SIG{PIPE} = 'IGNORE';
    print { $b->{to} } $json->encode(\%message), "\0"
        or die "chromium is gone: $!\n";

    return $b->{id};
}


sub call {
    my ($b, $method, $params) = @_;
    my $id = $b->tell($method, $params);

    for (;;) {
        my $message = $b->next_message;

        if (($message->{id} // 0) == $id) {
            die "$method: $message->{error}{message}\n" if $message->{error};
            return $message->{result};
        }
    }
}


sub next_message {
    my ($b, $seconds) = @_;
    my $end = time() + ($seconds // $PATIENCE);

    while ($b->{buffer} !~ /\0/) {
        my $left = $end - time();

        if ($left <= 0) {
            return if defined $seconds;
            die "chromium says nothing\n";
        }

        IO::Select->new($b->{from})->can_read($left) or next;
        sysread $b->{from}, $b->{buffer}, 65536, length $b->{buffer}
            or die "chromium is gone\n";
    }

    $b->{buffer} =~ s/^([^\0]*)\0//;
    my $message = $json->decode($1);
    $b->event($message) if $message->{method};

    return $message;
}


sub event {
    my ($b, $message) = @_;
    my ($method, $p) = @$message{qw(method params)};

    if ($method eq 'Network.requestWillBeSent') {
        push @{ $b->{asked} }, $p->{request}{url};

    } elsif ($method eq 'Runtime.exceptionThrown') {
        push @{ $b->{problems} }, 'exception: '
            . ($p->{exceptionDetails}{exception}{description}
               // $p->{exceptionDetails}{text});

    } elsif ($method eq 'Runtime.consoleAPICalled') {
        push @{ $b->{problems} }, "console: $p->{type} "
            . $json->encode($p->{args});

    } elsif ($method eq 'Log.entryAdded') {
        push @{ $b->{problems} }, "$p->{entry}{source}: $p->{entry}{text} "
            . ($p->{entry}{url} // '');

    } elsif ($method eq 'Page.javascriptDialogOpening') {
        push @{ $b->{problems} }, "dialog: $p->{message}";
        $b->tell('Page.handleJavaScriptDialog', { accept => JSON::PP::true });

    } elsif ($method eq 'Fetch.requestPaused') {
        my ($found) = grep { $p->{request}{url} =~ $_->[0] }
            @{ $b->{answers} };

        if ($found) {
            $b->tell('Fetch.fulfillRequest', { requestId => $p->{requestId},
                responseCode => 200, responseHeaders => [
                    { name => 'Content-Type', value => 'application/json' } ],
                body => encode_base64($found->[1]->($p->{request}{url}),
                                      '') });

        } else {
            $b->tell('Fetch.continueRequest',
                     { requestId => $p->{requestId} });
        }
    }

    return;
}


# -- what tests say

sub open {
    my ($b, $url) = @_;
    my $loaded = $b->call('Page.navigate', { url => $url });
    die "$url: $loaded->{errorText}\n" if $loaded->{errorText};
    $b->wait_js("document.readyState === 'complete'");
    return;
}


sub js {
    my ($b, $expression) = @_;
    my $got = $b->call('Runtime.evaluate', { expression => $expression,
        awaitPromise => JSON::PP::true, returnByValue => JSON::PP::true });

    die "$expression: $got->{exceptionDetails}{exception}{description}\n"
        if $got->{exceptionDetails};

    return $got->{result}{value};
}


# events come meanwhile
sub wait_js {
    my ($b, $expression, $seconds) = @_;
    my $end = time() + ($seconds // $PATIENCE);

    for (;;) {
        my $value = eval { $b->js($expression) };
        die $@ if $@ && $@ =~ /^chromium/;
        return $value if $value;
        return if time() > $end;
        $b->next_message(0.05);
    }
}


sub size {
    my ($b, $width, $height) = @_;
    $b->call('Emulation.setDeviceMetricsOverride', { width => $width,
        height => $height, deviceScaleFactor => 1,
        mobile => $width < 600 ? JSON::PP::true : JSON::PP::false });
    return;
}


sub scheme {
    my ($b, $name) = @_;
    $b->call('Emulation.setEmulatedMedia', { features => [
        { name => 'prefers-color-scheme', value => $name } ] });
    return;
}


sub answer {
    my ($b, %answers) = @_;
    push @{ $b->{answers} }, map { [ qr/$_/, $answers{$_} ] } keys %answers;
    $b->call('Fetch.enable', {});
    return;
}


sub shot {
    my ($b, $file) = @_;
    my $got = $b->call('Page.captureScreenshot', { format => 'png' });
    CORE::open(my $out, '>:raw', $file) or die "$file: $!\n";
    print $out decode_base64($got->{data});
    close $out;
    return;
}


sub problems { return $_[0]{problems} }
sub asked { return $_[0]{asked} }

sub forget {
    my ($b) = @_;
    @$b{qw(problems asked)} = ([], []);
    return;
}


sub stop {
    my ($b) = @_;
    return finish($b->{pid});
}


# its processes are a group
sub finish {
    my ($pid) = @_;

    kill 'KILL', -$pid;
    waitpid $pid, 0;
    delete $running{$pid};

    for (1 .. 100) {
        return 1 if !kill 0, -$pid;
        sleep 0.02;
    }
    return 0;
}


END {
    if ($$ == $owner) {
        my $status = $?;
        finish($_) for keys %running;
        $? = $status;
    }
}

1;
