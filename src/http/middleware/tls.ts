// Built-in TLS in front of the HTTP server: certificates are reloaded when their files change, and clients may be required to present one.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { createSecureContext, createServer as createTlsServer } from 'node:tls';

/** Paths of PEM files. */
export interface TlsFiles {
  /** The certificate, followed by its intermediate certificates. */
  readonly cert: string;
  readonly key: string;
  /** CA certificates. If given, clients must present a certificate signed by one of them. */
  readonly clientCa?: string | undefined;
}

/** A file cannot be used; the message says which one, why, and what would be right. */
export class TlsFault extends Error {
  override readonly name = 'TlsFault';
}

interface TlsContents {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
  /** When the certificate expires. */
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
    'a certificate with its intermediate certificates, as PEM',
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
  /** Calls `onListening` with the port. */
  listen(address: { readonly host: string; readonly port: number }, onListening: (port: number) => void): void;
  /** Registers a listener for the error of `listen`. */
  onError(listener: (error: Error) => void): void;
  /** Reloads the files if they appear changed. */
  check(): void;
  /** Stops accepting connections, and calls back when all have ended. */
  close(onClosed: () => void): void;
  /** Includes connections still in their handshake. */
  closeAllConnections(): void;
}

const CHECK_EVERY_MS = 5000;

/** `server` handles the decrypted connections, and does not listen itself. Throws TlsFault. */
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
  /** Called once for each change that cannot be used: the previous files stay in effect. */
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
  // A handshake that fails concerns its client only.
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
        // Starts the server's checks of request timeouts.
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
      // It has no listening socket, but this closes idle connections.
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
