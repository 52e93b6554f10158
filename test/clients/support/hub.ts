// Docker Hub as a runtime finds it where Veneer does not serve it: a registry of the environment behind its name, by a proxy and a certificate.
import { once } from 'node:events';
import { mkdtemp, readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Running, run } from './process.ts';

export interface Hub extends Running {
  /** For a runtime: its way to Docker Hub is this one, and it knows the certificate. */
  readonly env: Readonly<Record<string, string>>;
  /** Paths that were asked for, from the first. */
  readonly paths: readonly string[];
}

const NAME = 'registry-1.docker.io';

/** `target` is the registry's host:port. */
export async function startHub(folder: string, target: string): Promise<Hub> {
  const { cert, key, file } = await makeCertificate(await mkdtemp(join(folder, 'hub-')));
  const paths: string[] = [];
  const hub = createTlsServer({ cert, key }, (incoming, outgoing) => {
    const { method, url: path = '', headers } = incoming;
    paths.push(path);
    const passed = request(`http://${target}`, { method, path, headers: { ...headers, host: target } }, answer => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(hub, 'listening');

  /** Nothing else of the world is there. */
  const proxy = createServer((_, response) => response.writeHead(403).end());
  const sockets = new Set<Socket>();
  proxy.on('connection', socket => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  proxy.on('connect', ({ url }, socket) => {
    socket.on('error', () => {});
    if (url !== `${NAME}:443`) return void socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    const { port } = Object(hub.address());
    const tunnel = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connected\r\n\r\n');
      socket.pipe(tunnel).pipe(socket);
    });
    tunnel.on('error', () => socket.destroy());
    socket.on('close', () => tunnel.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = Object(proxy.address());

  return {
    env: { HTTPS_PROXY: `http://127.0.0.1:${port}`, SSL_CERT_FILE: file },
    paths,
    async stop() {
      hub.closeAllConnections();
      for (const socket of sockets) socket.destroy();
      await Promise.all([hub, proxy].map(server => new Promise(resolve => server.close(resolve))));
    },
  };
}

async function makeCertificate(folder: string) {
  const [file, keyFile] = [join(folder, 'hub.pem'), join(folder, 'hub.key')];
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', `/CN=${NAME}`, '-addext', `subjectAltName=DNS:${NAME}`, '-keyout', keyFile, '-out', file],
  ]);
  return { file, cert: await readFile(file), key: await readFile(keyFile) };
}
