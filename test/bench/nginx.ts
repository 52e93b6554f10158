// nginx as a caching proxy of a registry: a further peer, for blobs alone, as it knows nothing of registries.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findFreePort, findProgram, type Server, startServer } from './processes.ts';

/** With `proxy_cache_lock`, so that a blob that arrives is transferred once; requests that wait for it do so until it is whole. */
export async function startNginx(directory: string, { address }: Server): Promise<Server> {
  await mkdir(directory, { recursive: true });
  const port = await findFreePort();
  const path = join(directory, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${join(directory, name)};`,
  );
  const config = `
    daemon off;
    pid ${join(directory, 'nginx.pid')};
    error_log stderr notice;
    # Otherwise it could not read this folder.
    user root;
    worker_processes auto;
    events { worker_connections 1024; }
    http {
      ${temporary.join('\n      ')}
      access_log ${join(directory, 'access.log')};
      sendfile on;
      tcp_nopush on;
      proxy_cache_path ${join(directory, 'data')} levels=1:2 keys_zone=blobs:10m max_size=50g inactive=1d use_temp_path=off;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://${address};
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_cache blobs;
          proxy_cache_valid 200 1d;
          proxy_cache_lock on;
          proxy_cache_lock_timeout 1h;
          proxy_cache_lock_age 1h;
        }
      }
    }`;
  await writeFile(path, config);
  return startServer({ file: findProgram('nginx'), args: ['-c', path, '-e', 'stderr'], port });
}
