# Forms: the model is a field, before or after the file, and whatever two
# readers could take for different models is refused.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'whisper-1,denied');
my $anvil = $t->backend('anvil', models => 'whisper-large-v3,w');
my $cloud = $t->backend('cloud', models => 'w');
my %client = map { $_ => $t->token($_) } qw(alice reader);

$t->start(proxy => sub { s/(client_body_buffer_size) 4m/$1 16k/;
                         s/(client_max_body_size) 64m/$1 30m/ },
    http => <<"END");
    hybrid_client alice { $client{alice}{line}
                          models whisper* *-cloud nowhere; }
    hybrid_client reader { $client{reader}{line} models *; verbs read; }
    hybrid_backend forge { pass http://$forge->{addr}; models whisper-1; }
    hybrid_backend anvil { pass http://$anvil->{addr}; models whisper-large-v3;
                           rename whisper-2 whisper-large-v3;
                           rename whisper-long w; }
    hybrid_backend cloud { pass http://$cloud->{addr}/openai/v1; api openai;
                           models whisper-cloudy; }
    hybrid_route whisper-1 forge;
    hybrid_route whisper-cloudy cloud;
    hybrid_route * anvil;
END

$t->{as} = $client{alice};

sub asked { my $n = 0; $n += $_->stats->{requests} for $forge, $anvil, $cloud;
            return $n }

my $type = 'multipart/form-data; boundary=b';

sub part {
    my ($name, $value, $more) = @_;
    return "--b\r\nContent-Disposition: form-data; name=\"$name\""
        . ($more // '') . "\r\n\r\n$value\r\n";
}

sub form { join '', @_, "--b--\r\n" }
sub file { part('file', $_[0] // "RIFF\r\n--\0\xff",
                "; filename=\"a.wav\"\r\nContent-Type: audio/wav") }

sub ask {
    my ($body, %o) = @_;
    return $t->post($o{path} || '/v1/audio/transcriptions', $body,
        headers => { 'Content-Type' => $o{type} || $type }, %o);
}

sub refused {
    my ($name, $want, $body, %o) = @_;
    my $before = asked();
    my $r = ask($body, %o);

    is "$r->{status} $r->{headers}{'x-hybrid-reason'}", $want, $name
        or diag $r->{content};
    ok $r->{json}{error}{message}, "$name: says why, as OpenAI does";
    is asked(), $before, "$name: no backend was asked";
}


subtest 'the field is found' => sub {
    for my $path (qw(/v1/audio/transcriptions /v1/audio/translations)) {
        for my $body (form(part(model => 'whisper-1'), file()),
                      form(file(), part(language => 'en'),
                           part(model => 'whisper-1')),
                      form(part(model => 'library/Whisper-1:latest'), file()))
        {
            my $r = ask($body, path => $path);
            is $r->{status}, 200, $path or diag $r->{content};
            is $r->{json}{text}, '10 bytes, whisper-1:latest';
            is $r->{headers}{'x-hybrid-backend'}, 'forge';
            is $forge->last->{target}, $path;
            is $forge->last->{body_sha256}, Hybrid::sha256($body),
                'the same bytes';
            is $forge->last->{header}{'content-type'}, $type;
        }
    }
};


# the query would beat the field
subtest 'the query stays here' => sub {
    for my $query ('model=denied', 'model=denied&model=x', 'MODEL=denied') {
        my $r = ask(form(file(), part(model => 'whisper-1')),
                    path => "/v1/audio/transcriptions?$query");
        is $r->{json}{text}, '10 bytes, whisper-1:latest', $query;
        is $forge->last->{target}, '/v1/audio/transcriptions';
    }
};


subtest 'pieces, chunked, and large' => sub {
    my $body = form(file("x" x 60), part(model => 'whisper-1'));

    my $i = 0;
    my $r = ask(sub { substr $body, $i++, 1 });
    is $r->{json}{text}, '60 bytes, whisper-1:latest', 'byte by byte'
        or diag $r->{content};

    # more than is kept in memory
    my $large = join '', map { chr rand 256 } 1 .. 100_003;
    $large = form(part(model => 'whisper-1'), file($large x 25));
    $r = ask($large);
    like $r->{json}{text}, qr/^2500075 bytes, whisper-1/, '2.5 MB';
    is $forge->last->{body_sha256}, Hybrid::sha256($large);

    $large = form(file('-' x 2_000_000), part(model => 'whisper-2'));
    $r = ask($large);
    like $r->{json}{text}, qr/^2000000 bytes, whisper-large-v3/, 'spooled '
        . 'and renamed';
    is $anvil->last->{body_sha256}, Hybrid::sha256(
        $large =~ s/whisper-2/whisper-large-v3/r);

    is ask('x' x 32_000_000)->{status}, 413, '32 MB';
};


subtest 'renamed' => sub {
    for my $name (qw(whisper-2 whisper-long)) {
        my $to = $name eq 'whisper-2' ? 'whisper-large-v3' : 'w';

        for my $body (form(part(model => $name), file()),
                      form(file($name), part(model => $name),
                           part(prompt => $name)))
        {
            my $r = ask($body);
            my $want = $body =~ /prompt/
                ? form(file($name), part(model => $to), part(prompt => $name))
                : form(part(model => $to), file());
            is $anvil->last->{body_sha256}, Hybrid::sha256($want),
                "$name is $to";
            is $anvil->last->{header}{'content-length'}, length $want;
        }
    }
};


subtest 'a cloud' => sub {
    refused('egress', '404 model_not_found',
        form(file(), part(model => 'nowhere')));
    refused('a cloud name', '403 model_denied',
        form(file(), part(model => 'whisper-cloud')));
    refused('a cloud name', '403 model_denied',
        form(file(), part(model => 'w:x-cloud')));

    $cloud->behave(status => 200, body => { text => 'x' }, all => 1);
    is ask(form(part(model => 'whisper-cloudy'), file()))->{status}, 200;
    is $cloud->last->{target}, '/openai/v1/audio/transcriptions',
        'the path of its API';
};


subtest 'policy' => sub {
    refused('denied', '403 model_denied',
        form(file(), part(model => 'denied')));
    refused('by another name', '403 model_denied',
        form(file(), part(model => 'LIBRARY/Denied:latest')));
    refused('a reader', '403 verb', form(part(model => 'whisper-1')),
        as => $client{reader});
    refused('nobody', '401 unauthenticated', form(part(model => 'whisper-1')),
        as => undef);
    refused('no model', '400 model_required', form(file()));
    refused('no parts', '400 model_required', "--b--");
    refused('an empty one', '400 model_required',
        form(part(model => ''), file()));
    refused('no name', '400 invalid_model', form(part(model => $_))) for
        'a b', "whisper-1\r\n", "whisper-1\0", " whisper-1", "\xc3\xa4", "\r",
        'whisper-1%20';
    refused('257 bytes', '400 invalid_body', form(part(model => 'a' x 257)));
    is ask(form(part(model => 'whisper-' . 'a' x 248)))->{status}, 404,
        '256 bytes';
};


subtest 'what readers would differ about' => sub {
    my $ok = part(model => 'whisper-1');
    my $no = part(model => 'denied');
    my %body = (
        'twice' => form($ok, $no), 'twice the same' => form($ok, $ok),
        'in capitals' => form($ok, $no =~ s/"model"/"MODEL"/r),
        'as a list' => form($ok, $no =~ s/"model"/"model[]"/r),
        'escaped' => form($ok, $no =~ s/"model"/"mod%65l"/r),
        'with a backslash' => form($ok, $no =~ s/"model"/"mod\\el"/r),
        'name*' => form($ok, $no =~ s/name="model"/name="x"; name*=model/r),
        'two names' => form($no =~ s/;/; name="x";/r, $ok),
        'a quote in a name' => form($ok,
            $no =~ s/name="model"/name="x\\"; name=\\"model"/r),
        'a file' => form(part('model', 'whisper-1', '; filename="a"')),
        'another charset' => form(part('model', 'whisper-1',
            "\r\nContent-Type: text/plain; charset=utf-7")),
        '_charset_' => form(part('_charset_', 'utf-16'), $ok),
        'base64' => form(part('model', 'ZGVuaWVk',
            "\r\nContent-Transfer-Encoding: base64")),
        'a folded header' => form($ok,
            $no =~ s/form-data; /form-data;\r\n /r),
        'LF only' => form($ok) =~ s/\r\n/\n/gr,
        'a delimiter after LF' => form(part('file', "a\n" . $no), $ok),
        'a delimiter after CR' => form(part('file', "a\r" . $no), $ok),
        'a delimiter with a space' => form($ok, $no) =~ s/--b\r\n(?!.*--b\r\n)
            /--b \r\n/xsr,
        'a delimiter in the middle' => form(part('file', "a--b"), $ok),
        'a longer delimiter' => form(part('file', "a\r\n--bc"), $ok),
        'a preamble' => 'x' . form($ok), 'an empty line first' =>
            "\r\n" . form($ok),
        'a preamble with a form' => "--c\r\n" . form($ok),
        'an epilogue' => form($ok) . 'x',
        'another form' => form($ok) . form($no),
        'no end' => $ok, 'half an end' => "$ok--b-", 'nothing' => '',
        'JSON' => '{"model":"whisper-1"}',
    );

    refused($_, '400 invalid_body', $body{$_}) for sort keys %body;

    refused("type: $_", '400 invalid_body', form($ok), type => $_) for
        'application/json', 'multipart/form-data',
        'multipart/mixed; boundary=b',
        'multipart/form-data; boundary=b; boundary=c',
        'multipart/form-data; boundary=c; boundary=b',
        'multipart/form-data; boundary="b', "$type; charset=utf-8",
        'multipart/form-data; boundary=c',
        'multipart/form-data; boundary=' . 'b' x 71;

    refused('gzip', '415 content_encoding', form($ok),
        headers => { 'Content-Type' => $type, 'Content-Encoding' => 'gzip' });

    my $head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\n"
        . "Connection: close\r\n" . $t->auth_lines . 'Content-Length: '
        . length(form($ok)) . "\r\n";
    my $before = asked();

    for my $types ('', "Content-Type: $type\r\n" x 2, "Content-Type: "
                   . "multipart/form-data; boundary=c\r\n"
                   . "Content-Type: $type\r\n",
                   "Content-Type: text/plain\r\nContent-Type: $type\r\n")
    {
        like $t->raw("$head$types\r\n" . form($ok)), qr/^HTTP\/1.1 400 /,
            'none or two types';
    }

    is asked(), $before, 'no backend was asked';
    like $t->raw("${head}CONTENT-TYPE: $type\r\n\r\n" . form($ok)),
        qr/^HTTP\/1.1 200 /, 'one';
};


subtest 'the openai client' => sub {
    my $modules = "$Hybrid::ROOT/build/clients/node_modules";
    $modules = "$ENV{HYBRID_BUILD}/clients/node_modules" if $ENV{HYBRID_BUILD};

    plan skip_all => 'no npm clients: tools/deps test installs them'
        if !-d "$modules/openai";

    symlink $modules, "$t->{dir}/node_modules" or die "symlink: $!";
    my $script = $t->file('transcribe.mjs',
        Hybrid::_slurp("$Hybrid::ROOT/t/clients/transcribe.mjs"));
    my $sound = $t->file('sound.wav', "\r\n-" x 100_000);
    my $node = sub {
        local @ENV{qw(HYBRID_ID HYBRID_SECRET)}
            = @{$client{alice}}{qw(id secret)};
        my $out = $t->run('timeout', 60, 'node', $script,
                          'http://127.0.0.1:' . $t->port, @_);
        is $t->{rc}, 0, 'node ends well' or diag $out;
        return Hybrid::decode($out);
    };

    is_deeply $node->('whisper-1'),
        [ ({ text => '13 bytes, whisper-1:latest' }) x 2 ], 'a buffer';
    is_deeply $node->('whisper-2', $sound),
        [ ({ text => '300000 bytes, whisper-large-v3:latest' }) x 2 ],
        'a stream, renamed';

    my ($one, $two) = @{$node->('denied')};
    is "$_->{status} $_->{code}", '403 model_denied', 'denied' for $one, $two;
    like $one->{message}, qr/may not use this model/;
};

$t->done;
