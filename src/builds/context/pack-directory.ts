// A directory as the tar that is sent to a service, which makes the same context of it as of the directory itself.
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { bytesOf } from './bytes.ts';
import { type DirectoryOptions, readDirectory } from './directory.ts';
import { encodeTar } from './encode-tar.ts';

interface PackOptions extends DirectoryOptions {
  /** Whether the tar is packed with gzip. */
  readonly gzip?: boolean | undefined;
}

/**
 * What the ignore file of the directory leaves. Throws InvalidContext, which names the path, or the error of the file system; one that
 * comes later breaks the stream. The caller reads it to its end or cancels it.
 */
export async function packDirectory(
  path: string,
  { gzip = false, ...options }: PackOptions = {},
): Promise<ReadableStream<Uint8Array>> {
  const tar = encodeTar(await readDirectory(path, options));
  return gzip ? ReadableStream.from(bytesOf(Readable.fromWeb(tar).compose(createGzip()))) : tar;
}
