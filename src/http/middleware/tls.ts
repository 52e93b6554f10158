// TLS of our own, in front of the server of requests: certificates are read again when their files change, and a client may have to show one.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { createSecureContext, createServer as createTlsServer } from 'node:tls';

/** Paths of PEM files. */
export interface TlsFiles {
  /** The certificate, with those between it and its CA behind it. */
  readonly cert: string;
  readonly key: string;
  /** CAs. With it only clients that show a certificate of theirs are let in. */
  readonly clientCa?: string | undefined;
}

/** The files cannot be used; the message says which, why and what would be right. */
export class TlsFault extends Error {
  override readonly name = 'TlsFault';
}

interface TlsContents {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
  /** When the certificate ends. */
  readonly validTo: Date;
}

/** Throws TlsFault. */
export function readTlsFiles({ cert, key, clientCa }: TlsFiles): TlsContents {
  const contents = {
    cert: readPart('cert', cert),
    key: readPart('key', key),
    ca: clientCa === undefined ? undefined : readPart('clientCa', clientCa),
  };
  const certificate = parsePart('cert', cert, () => new X509Certificate(contents.cert), 'a certificate as PEM');
  const privateKey = parsePart(
    'key',
    key,
    () => createPrivateKey(contents.key),
    'a private key as PEM, without a password',
  );
  if (!certificate.checkPrivateKey(privateKey))
    throw new TlsFault(`tls.key: ${key} is not the key of the certificate in ${cert}`);
  const { ca } = contents;
  if (ca && clientCa !== undefined)
    parsePart('clientCa', clientCa, () => new X509Certificate(ca), 'certificates as PEM');
  parsePart(
    'cert',
    cert,
    () => createSecureContext(contents),
    'a certificate, and those between it and its CA, as PEM',
  );
  return { ...contents, validTo: new Date(certificate.validTo) };
}

function readPart(name: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : cause;
    throw new TlsFault(`tls.${name}: cannot read ${path} (${code})`, { cause });
  }
}

function parsePart<T>(name: string, path: string, parse: () => T, expected: string): T {
  try {
    return parse();
  } catch (cause) {
    // The library's own message may quote the file.
    throw new TlsFault(`tls.${name}: ${path}: expected ${expected}`, { cause });
  }
}

export interface TlsListener {
  /** Calls back with the port. */
  listen(address: { readonly host: string; readonly port: number }, onListening: (port: number) => void): void;
  /** Called where it cannot listen. */
  onError(listener: (error: Error) => void): void;
  /** Reads the files again, if they look changed. */
  check(): void;
  /** No more connections are taken; calls back when all have ended. */
  close(onClosed: () => void): void;
  /** Those that have not come as far as a request, too. */
  closeAllConnections(): void;
}

const CHECK_EVERY_MS = 5000;

/** `server` serves what comes through, and does not listen itself. Throws TlsFault. */
export function createTlsListener({
  files,
  server,
  maxConnections,
  handshakeMs,
  checkEveryMs = CHECK_EVERY_MS,
  onReloaded,
  onFault,
}: {
  readonly files: TlsFiles;
  readonly server: Server;
  readonly maxConnections: number;
  readonly handshakeMs: number;
  readonly checkEveryMs?: number;
  readonly onReloaded: (loaded: { readonly validTo: Date }) => void;
  /** The files have changed, and cannot be used: what was read before stays in force. Called once for each change. */
  readonly onFault: (fault: TlsFault) => void;
}): TlsListener {
  let version = findVersion(files);
  const { validTo: _, ...contents } = readTlsFiles(files);
  const isMutual = files.clientCa !== undefined;
  const options = { ...contents, requestCert: isMutual, rejectUnauthorized: isMutual };
  const sockets = new Set<Socket>();
  const listener = createTlsServer({ ...options, handshakeTimeout: handshakeMs, ALPNProtocols: ['http/1.1'] }, socket =>
    server.emit('connection', socket),
  );
  listener.maxConnections = maxConnections;
  listener.on('connection', socket => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  // A client that breaks off a handshake is its own concern.
  listener.on('tlsClientError', (_, socket) => socket.destroy());
  const checking = setInterval(check, checkEveryMs).unref();

  function check(): void {
    const found = findVersion(files);
    if (found === version) return;
    version = found;
    try {
      const { validTo, ...fresh } = readTlsFiles(files);
      listener.setSecureContext(fresh);
      onReloaded({ validTo });
    } catch (error) {
      if (!(error instanceof TlsFault)) throw error;
      onFault(error);
    }
  }

  return {
    listen({ host, port }, onListening) {
      listener.listen(port, host, () => {
        // It watches over heads of requests from then on.
        server.emit('listening');
        const address = listener.address();
        onListening(typeof address === 'object' && address ? address.port : port);
      });
    },
    onError: onFailed => void listener.on('error', onFailed),
    check,
    close(onClosed) {
      clearInterval(checking);
      listener.close(onClosed);
      // It has no socket of its own to close, and lets idle connections go.
      server.close(() => {});
    },
    closeAllConnections() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Changes whenever one of the files does. */
function findVersion({ cert, key, clientCa }: TlsFiles): string {
  const paths = [cert, key, ...(clientCa === undefined ? [] : [clientCa])];
  const versions = paths.map(path => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat ? `${stat.mtimeNs} ${stat.size} ${stat.ino}` : 'none';
  });
  return versions.join(', ');
}
