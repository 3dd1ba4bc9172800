"""The API server.

- `connection`  one connection to it; the only module that imports the Kubernetes client
- `client`      what is asked of it
- `informer`    the watch; the only module that imports kopf
- `lease`       one operator acts at a time
- `rights`      whether the operator may do what it has to
- `announcer`   Events on their way there
- `config_map`  the ConfigMap that names an image
"""
