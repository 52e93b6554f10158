// Containerfiles without RUN, each with something that builders could see in different ways.
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { packTar } from '../../support/build-images.ts';

export type ContextEntry =
  | string
  | { readonly link: string }
  | { readonly directory: number }
  | { readonly content: string | Uint8Array; readonly mode: number };

export interface EmbeddedCase {
  readonly name: string;
  /** $BUSYBOX, $BASE and $TRIGGERS stand for images. */
  readonly containerFile: string;
  readonly context: Readonly<Record<string, ContextEntry>>;
  readonly args?: Readonly<Record<string, string>>;
  readonly stage?: string;
}

const tar = await packTar([
  { name: 'top.txt', body: 'top', mode: 0o640, uid: 5, gid: 6 },
  { name: 'dir/', type: 'directory', mode: 0o711, uid: 9 },
  { name: 'dir/run', body: '#!', mode: 0o4755 },
  { name: 'implied/deep/file', body: 'deep', mode: 0o600 },
  { name: 'dir/link', type: 'symlink', linkname: '../top.txt' },
  { name: 'dir/hard', type: 'link', linkname: 'top.txt', mode: 0o640, uid: 5, gid: 6 },
  { name: 'data/sub/added', body: 'added', mode: 0o644 },
]);

const files: Readonly<Record<string, ContextEntry>> = {
  a: 'a',
  'b.txt': 'b',
  'none.txt': '',
  'c.txt': 'c',
  'c d': 'spaced',
  run: { content: '#!/bin/sh\n', mode: 0o755 },
  private: { directory: 0o750 },
  'private/key': { content: 'key', mode: 0o400 },
  'dir/one': 'one',
  'dir/sub/two.txt': 'two',
  'dir/sub/three': { content: '3', mode: 0o4711 },
  'dir/link': { link: 'one' },
  'dir/out': { link: '../../../etc/passwd' },
  'dir/empty': { directory: 0o700 },
  link: { link: 'dir' },
  'filelink.txt': { link: 'b.txt' },
  'x[1]': 'brackets',
};

const configs: readonly EmbeddedCase[] = [
  {
    name: 'scratch with one file',
    containerFile: 'FROM scratch\nCOPY a /a\n',
    context: files,
  },
  {
    name: 'environment and arguments in all forms',
    containerFile: [
      `ARG G=global H=\${G}-\${TARGETARCH}`,
      'FROM $BUSYBOX',
      'ARG G',
      'ARG H',
      'ARG L=local-$G U',
      `ENV ONE=$G TWO="\${L} x" THREE='$G' FOUR=a\\ b FIVE=\${U:-unset} SIX=\${G:+set}`,
      'ENV OLD form  with spaces',
      'ENV PATH=$PATH:/more TARGET=$TARGETPLATFORM',
      'ARG TARGETPLATFORM TARGETVARIANT BUILDPLATFORM',
      'ENV TARGET=$TARGETPLATFORM/$TARGETVARIANT BUILD=$BUILDPLATFORM',
      'ENV P=/usr/local/bin.tar.gz',
      `ENV Q=\${P##*/} R=\${P%%.*} S=\${P/local/x} T=\${P//a/_}`,
      'LABEL a=$G "b c"="$L" d=\\$G e=\'x y\'',
      'LABEL multi=1 \\',
      '  # a comment',
      '',
      '  more=2',
    ].join('\n'),
    context: files,
    args: { G: 'given', U: 'u' },
  },
  {
    name: 'commands, entrypoints and shells',
    containerFile:
      'FROM $BUSYBOX AS one\nSHELL ["/bin/ash", "-ec"]\nENTRYPOINT echo  $HOME\nFROM one AS two\nCMD ["a", "$b"]\nENTRYPOINT ["/x"]\nFROM two\nCMD last \\\n  words\n',
    context: {},
  },
  {
    name: 'an entrypoint that takes the command of its base away',
    containerFile: 'FROM $BUSYBOX\nENTRYPOINT ["/bin/true"]\n',
    context: {},
  },
  {
    name: 'an empty command and entrypoint',
    containerFile: 'FROM $BUSYBOX\nENTRYPOINT []\nCMD []\n',
    context: {},
  },
  {
    name: 'ports, volumes, signals, users and health',
    containerFile: [
      'FROM $BASE',
      'ARG PORT=90',
      `EXPOSE 80 443/tcp 53/UDP 8000-8002 \${PORT}`,
      'VOLUME /v $A',
      'VOLUME ["/json", "/b c"]',
      'STOPSIGNAL SIGUSR1',
      `USER $A:\${PORT}`,
      'HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=2s --start-interval=500ms --retries=7 CMD curl -f $A || exit 1',
      'MAINTAINER some one',
    ].join('\n'),
    context: {},
  },
  {
    name: 'a health check without a shell, and none',
    containerFile: 'FROM $BUSYBOX AS a\nHEALTHCHECK CMD ["/x", "y"]\nFROM a\nSTOPSIGNAL 9\nHEALTHCHECK NONE\n',
    context: {},
  },
  {
    name: 'triggers that are stored',
    containerFile: 'FROM $BUSYBOX\nONBUILD COPY <<E /x\nhello $A\nE\nONBUILD  ENV a=$b\n',
    context: {},
  },
  {
    name: 'triggers of an image',
    containerFile: 'FROM $TRIGGERS\nCOPY b.txt .\n',
    context: files,
  },
  {
    name: 'triggers of a stage',
    containerFile:
      'FROM $BUSYBOX AS one\nONBUILD ENV T=$TARGETARCH\nONBUILD COPY --from=$BASE /data/one /one\nFROM one\nENV U=$T\n',
    context: files,
  },
  {
    name: 'a stage that has the arguments of its base',
    containerFile: 'FROM $BUSYBOX AS one\nARG X=1\nENV Y=$X\nFROM one\nENV Z=$X$Y\n',
    context: {},
  },
  {
    name: 'another escape character',
    containerFile: '# escape=`\nFROM $BUSYBOX\nENV A=`$B C=a\\b D=a` `\n  E=f\nCOPY a `\n  C:\\x\n',
    context: files,
  },
];

const copies: readonly EmbeddedCase[] = [
  {
    name: 'directories, their links and modes',
    containerFile:
      'FROM $BASE\nCOPY dir /d1\nCOPY dir/ /d2/\nCOPY dir private/ /d3/\nCOPY private /data\nCOPY dir/. rel/\n',
    context: files,
  },
  {
    name: 'sources that are links',
    containerFile: 'FROM scratch\nCOPY link /l\nCOPY filelink.txt /f/\nCOPY filelink.txt /g\n',
    context: files,
  },
  {
    name: 'wildcards',
    containerFile:
      'FROM $BASE\nCOPY *.txt /t/\nCOPY dir/*/t* /u/\nCOPY [a-b]* /v/\nCOPY x[[]1] /w\nCOPY no-such* /none/\nCOPY di? /x/\n',
    context: files,
  },
  {
    name: 'names with spaces, in JSON',
    containerFile: 'FROM scratch\nCOPY ["c d", "/e f/"]\nCOPY ["a", "b.txt", "/m/"]\n',
    context: files,
  },
  {
    name: 'destinations through links of the base',
    containerFile:
      'FROM $BASE\nCOPY a /lib/\nCOPY b.txt link/\nCOPY dir /data/link\nCOPY a /data/hard\nCOPY a ./\nCOPY c.txt sub/\n',
    context: files,
  },
  {
    name: 'owners by number and by name',
    containerFile:
      'FROM $BASE\nCOPY --chown=3 a /a\nCOPY --chown=3:4 dir /new/deep/\nCOPY --chown=ann a /b\nCOPY --chown=ann:staff a /c\nCOPY --chown=nobody:nothing a /d\nCOPY --chown=:5 a /e\nCOPY --chown=70000:3000000 a /f\n',
    context: files,
  },
  {
    name: 'modes, octal and symbolic',
    containerFile:
      'FROM $BASE\nARG M=711\nCOPY --chmod=$M a /p/q/a\nCOPY --chmod=4755 dir /d\nCOPY --chmod=u=rwX,go=rX dir /e/f\nCOPY --chmod=go-rwx,u+x private /g/\nCOPY --chmod=a+t,g=u run /h\nCOPY --chmod=0 a /i\nCOPY --chmod=+x a /j\n',
    context: files,
  },
  {
    name: 'working directories, with owners',
    containerFile: `FROM $BASE\nWORKDIR sub/new\nCOPY a .\nUSER ann\nWORKDIR /w/x\nCOPY a b.txt ./\nUSER 12:13\nWORKDIR ../y\nWORKDIR /\nWORKDIR /lib/z\nWORKDIR $A/\${B}\n`,
    context: files,
  },
  {
    name: 'stages and images as sources',
    containerFile:
      'FROM $BASE AS one\nCOPY a /opaque/\nFROM scratch AS two\nCOPY --from=one / /\nFROM scratch\nCOPY --from=0 /data /d\nCOPY --from=two /data/hard /lib/../x/\nCOPY --from=$BASE /data/link /l\nCOPY --from=TWO --chown=1:2 /data/one /etc/* /m/\nCOPY --from=$BUSYBOX bin/busybox /bb\n',
    context: files,
  },
  {
    name: 'stages by platform',
    containerFile: `FROM --platform=$BUILDPLATFORM $BUSYBOX AS tools\nARG TARGETARCH\nCOPY a /for-$TARGETARCH\nFROM scratch AS out-amd64\nCOPY b.txt /\nFROM scratch AS out-arm64\nCOPY c.txt /\nFROM scratch AS out-arm\nCOPY a /\nFROM out-\${TARGETARCH}\nCOPY --from=tools /for-* /bin/sh /\n`,
    context: files,
  },
  {
    name: 'a target stage',
    containerFile:
      'FROM scratch AS one\nCOPY a /\nFROM one AS Two\nCOPY b.txt /\nENV S=x\nFROM nowhere.example/x\nRUN never\n',
    context: files,
    stage: 'two',
  },
  {
    name: 'linked copies',
    containerFile:
      'FROM $BASE\nCOPY --link a /opaque/x\nCOPY --link dir /data/link\nCOPY --link a /tmp\nCOPY --link --chown=4:5 --chmod=600 b.txt c/\nCOPY --link --from=$BASE /data/sub /n/\n',
    context: files,
  },
  {
    name: 'exclusions',
    containerFile:
      'FROM scratch\nCOPY --exclude=*.txt --exclude=empty dir /d/\nCOPY --exclude=**/*.txt dir /e/\nCOPY --exclude=sub --exclude=!sub/three dir /f/\nCOPY --exclude=*.txt . /g/\n',
    context: files,
  },
  {
    name: 'parents that are kept',
    containerFile:
      '# syntax-free\nFROM scratch\nCOPY --parents dir/sub/two.txt a /p/\nCOPY --parents dir/./sub /q/\nCOPY --parents **/*.txt /r/\nCOPY --parents --chown=1 private/key /s/\n',
    context: files,
  },
  {
    name: 'heredocs',
    containerFile: `FROM $BASE\nCOPY <<one.txt <<"two" <<-three /h/\nA is $A "q" \\$A 's'\n\${B}\none.txt\n$A stays\ntwo\n\t\ttabs\n\tgo\n\tthree\nCOPY --chmod=755 --chown=ann <<E /bin/x\n#!/bin/sh\nE\nCOPY <<E a /both/\nfirst\nE\nCOPY <<EMPTY /empty\nEMPTY\n`,
    context: files,
  },
  {
    name: 'archives that are added',
    containerFile:
      'FROM $BASE\nADD t.tar /u/\nADD t.tar.gz /v\nADD t.zst w/\nADD --chown=3:4 t.tar /x/\nADD --unpack=false t.tar /y/\nADD t.tar /\nADD a no.gz /z/\nCOPY t.tar /t\n',
    context: {
      ...files,
      't.tar': { content: tar, mode: 0o644 },
      't.tar.gz': { content: gzipSync(tar), mode: 0o644 },
      't.zst': { content: zstdCompressSync(tar), mode: 0o644 },
      'no.gz': { content: gzipSync('no tar'), mode: 0o644 },
    },
  },
  {
    name: 'a .dockerignore',
    containerFile: 'FROM scratch\nCOPY . /all/\nCOPY dir /d\n',
    context: { ...files, '.dockerignore': '# comment\n*.txt\n!c.txt\ndir\n!dir/sub/three\n**/key\n/link\nx*\n' },
  },
  {
    name: 'files that replace files and links',
    containerFile:
      'FROM $BASE\nCOPY a /data/one\nCOPY b.txt /data/one\nCOPY --from=$BASE /lib /etc /\nCOPY dir /over\nCOPY --chmod=700 dir /over\n',
    context: files,
  },
  {
    name: 'nothing but a base',
    containerFile: 'FROM $BASE\n',
    context: {},
  },
];

export const embeddedCases: readonly EmbeddedCase[] = [...configs, ...copies];
