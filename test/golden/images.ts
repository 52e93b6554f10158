// Images of all shapes whose bytes are the same on every machine: real tars, packed without a compressor, since those of zlib differ by version.
import { crc32 } from 'node:zlib';
import type { Compression } from '../../src/oci/media-type.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from '../support/images.ts';

const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7', 'windows/amd64'];

/** New ones come last: the seed of an image and its repository follow from its place. */
const SHAPES: Readonly<Record<string, Partial<ImageOptions>>> = {
  'an OCI index': {},
  'a Docker list': { family: 'docker' },
  'OCI and Docker in one index': { family: 'mixed' },
  'an OCI image alone': { index: false },
  'a Docker image alone': { index: false, family: 'docker' },
  'nested indexes': { nested: true },
  'nested Docker lists': { nested: true, family: 'docker' },
  'an index with attestations': { attestations: true },
  'nested indexes with attestations and an artifact': { nested: true, attestations: true, artifact: true },
  'foreign layers': { foreign: true, family: 'mixed' },
  'entries without platforms': { noPlatform: true },
  'nothing that says its type': { noEntryType: true, noMediaType: true },
  'no config fields': { run: { Env: undefined, Cmd: undefined } },
  'empty config fields': {
    run: {
      Env: null,
      Cmd: null,
      Entrypoint: [],
      Labels: {},
      ExposedPorts: null,
      Volumes: null,
      WorkingDir: '',
      User: '',
    },
  },
  'full config fields': {
    run: {
      Env: ['PATH=/bin', 'EMPTY=', 'SECOND=2', 'PATH=/usr/bin'],
      Cmd: ['--serve'],
      Entrypoint: ['/bin/app'],
      Labels: { kept: 'yes', changed: 'no', 'a.b/c': '"<&>\u2028"' },
      ExposedPorts: { '80/tcp': {} },
      Volumes: { '/data': {} },
      WorkingDir: '/srv',
      User: '1000:1000',
      StopSignal: 'SIGTERM',
      Healthcheck: { Test: ['CMD', 'true'] },
      OnBuild: ['RUN true'],
    },
  },
  'twelve layers': { platforms: ['linux/amd64', 'linux/s390x'], layers: 12 },
  'an artifact': {
    index: false,
    manifest: {
      config: {
        mediaType: 'application/vnd.cncf.helm.config.v1+json',
        digest: `sha256:${'0'.repeat(64)}`,
        size: 2,
      },
    },
  },
};

export interface GoldenImage {
  readonly name: string;
  readonly image: GeneratedImage;
}

export function createGoldenImages(): readonly GoldenImage[] {
  return Object.entries(SHAPES).map(([name, shape], at) => {
    const { platforms = PLATFORMS, layers = 3 } = shape;
    const tars = Object.fromEntries(platforms.map(platform => [platform, tarsOf(platform, layers)]));
    const image = generateImage({ seed: 100 + at, family: 'oci', pack: packPlain, ...shape, platforms, layers, tars });
    return { name, image };
  });
}

/** An image for others to include: on the platforms of all shapes. */
export function createIncludedImage(): GeneratedImage {
  const platforms = [...PLATFORMS, 'linux/s390x'];
  const tars = Object.fromEntries(
    platforms.map(platform => [platform, [tarOf([{ name: 'opt/included', body: platform }])]]),
  );
  return generateImage({ seed: 99, family: 'docker', pack: packPlain, platforms, layers: 1, tars });
}

/** The lowest layer has links of directories, which layers on top are put behind; on arm64 they lead elsewhere, on windows nowhere. */
function tarsOf(platform: string, count: number): readonly Uint8Array[] {
  const links: readonly TarEntry[] =
    platform === 'linux/arm64'
      ? [
          { name: 'usr/local/bin/', type: '5' },
          { name: 'bin', link: '/usr/local/bin' },
        ]
      : [
          { name: 'usr/bin/', type: '5' },
          { name: 'bin', link: 'usr/bin' },
        ];
  return Array.from({ length: count }, (_, at) =>
    tarOf([...(at === 0 && !platform.startsWith('windows') ? links : []), { name: `layer-${at}`, body: platform }]),
  );
}

export interface TarEntry {
  readonly name: string;
  readonly body?: string;
  readonly type?: string;
  readonly link?: string;
}

/** A ustar archive, written here: its bytes depend on no library. */
export function tarOf(entries: readonly TarEntry[]): Uint8Array {
  return Buffer.concat([...entries.flatMap(blocksOf), Buffer.alloc(1024)]);
}

function blocksOf({ name, body = '', link = '', type = link ? '2' : '0' }: TarEntry): readonly Buffer[] {
  const header = Buffer.alloc(512);
  const size = Buffer.byteLength(body);
  header.write(name);
  header.write(`${type === '5' ? '0000755' : '0000644'}\x000000000\x000000000\0`, 100);
  header.write(`${size.toString(8).padStart(11, '0')}\x0000000000000\0`, 124);
  header.write(`${' '.repeat(8)}${type}${link}`, 148);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return [header, Buffer.from(body), Buffer.alloc((512 - (size % 512)) % 512)];
}

/** Of less than 64 KiB, stored: as RFC 1952 and RFC 8878 allow. */
export function packPlain(tar: Uint8Array, compression: Compression): Uint8Array {
  if (compression === 'gzip') return gzipPlain(tar);
  return compression === 'zstd' ? zstdPlain(tar) : tar;
}

function gzipPlain(tar: Uint8Array): Uint8Array {
  const block = Buffer.alloc(5);
  block.writeUInt8(1, 0);
  block.writeUInt16LE(tar.byteLength, 1);
  block.writeUInt16LE(0xffff - tar.byteLength, 3);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(tar), 0);
  trailer.writeUInt32LE(tar.byteLength, 4);
  return Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]), block, tar, trailer]);
}

function zstdPlain(tar: Uint8Array): Uint8Array {
  const header = Buffer.alloc(12);
  header.writeUInt32LE(0xfd2fb528, 0);
  header.writeUInt8(0xa0, 4);
  header.writeUInt32LE(tar.byteLength, 5);
  header.writeUIntLE(tar.byteLength * 8 + 1, 9, 3);
  return Buffer.concat([header, tar]);
}
